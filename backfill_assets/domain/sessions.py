"""Market calendars: sessions, their hours, and which bars belong to them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain import new_york
from backfill_assets.domain.bars import Bars, Int
from backfill_assets.domain.days import ONE_DAY, DayRange


class Kind(StrEnum):
    """The kinds of market."""

    STOCKS = "stocks"
    CRYPTO = "crypto"


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a session in the market's zone, and when it is finished."""

    zone: ZoneInfo
    opens: time
    closes: time | None  # None: end of the day
    settling: timedelta  # how long after the close the vendor has the last bars
    minutes: int  # maximum number of minute bars of a session
    weekends: bool  # whether Saturdays and Sundays can be sessions

    def ends_at(self, session: date) -> datetime:
        """Return the end of the session's hours, UTC."""
        if self.closes is None:
            end = datetime.combine(session + ONE_DAY, time(0), self.zone)
        else:
            end = datetime.combine(session, self.closes, self.zone)
        return end.astimezone(UTC)

    def day_ends_at(self, session: date) -> datetime:
        """Return the end of the session's day, UTC."""
        return datetime.combine(session + ONE_DAY, time(0), self.zone).astimezone(UTC)

    def finished_at(self, session: date) -> datetime:
        """Return the time, UTC, from which the session's bars can be recorded as complete."""
        return self.ends_at(session) + self.settling


HOURS: dict[Kind, Hours] = {
    # Polygon's knowledge base: intraday stock bars cover 04:00 to 20:00 New York. Half days have the same end, since late
    # prints arrive there too. 15 minutes is the delay of the delayed plans.
    Kind.STOCKS: Hours(ZoneInfo("America/New_York"), time(4), time(20), timedelta(minutes=15), 16 * 60, weekends=False),
    # Polygon's documentation: crypto days are UTC days, around the clock.
    Kind.CRYPTO: Hours(ZoneInfo("UTC"), time(0), None, timedelta(0), 24 * 60, weekends=True),
}

HALF_HOURS = 48
"""Of a day: the resolution in which a session's minutes are summarized."""

_HALF_HOUR_MS = 30 * 60 * 1000


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The sessions of a market within a span of days. Days outside the span are not sessions."""

    kind: Kind
    span: DayRange
    sessions: tuple[date, ...] = field(repr=False)
    """Every trading day of the span, ascending."""
    half_days: tuple[date, ...] = field(repr=False)
    """The sessions with a scheduled early close, ascending."""
    minutes: tuple[int, ...] = field(repr=False)
    """The minutes of regular trading of each session."""
    first_week: date
    """The Sunday of the first week that lies in the span with all of its sessions."""

    @property
    def hours(self) -> Hours:
        """The market's hours."""
        return HOURS[self.kind]

    def __contains__(self, day: date) -> bool:
        return self._at(day) is not None

    def _at(self, day: date) -> int | None:
        i = bisect_left(self.sessions, day)
        return i if i < len(self.sessions) and self.sessions[i] == day else None

    def within(self, days: DayRange) -> tuple[date, ...]:
        """Return the sessions among the days, ascending."""
        return self.sessions[bisect_left(self.sessions, days.start) : bisect_right(self.sessions, days.end)]

    def regular_minutes(self, session: date) -> int:
        """Return the scheduled minutes of regular trading: 390 for stocks, 210 with a close at 13:00; 1440 for crypto.

        KeyError if the day is not a session.
        """
        i = self._at(session)
        if i is None:
            raise KeyError(session)
        return self.minutes[i]

    def regular_hours(self, session: date) -> tuple[datetime, datetime]:
        """Return the begin and the end of regular trading, UTC. KeyError if the day is not a session."""
        opens = time(9, 30) if self.kind is Kind.STOCKS else time(0)
        begin = datetime.combine(session, opens, self.hours.zone).astimezone(UTC)
        return begin, begin + timedelta(minutes=self.regular_minutes(session))

    def closed_days(self) -> tuple[date, ...]:
        """Return the days of the span on which the market is closed, ascending, without weekends that never trade."""
        trading = set(self.sessions)
        return tuple(d for d in self.span if (self.hours.weekends or d.weekday() < 5) and d not in trading)

    def last_finished(self, now: datetime) -> date | None:
        """Return the latest session that is finished at `now` (aware), or None."""
        today = now.astimezone(self.hours.zone).date()
        i = bisect_right(self.sessions, today)
        while i > 0 and self.hours.finished_at(self.sessions[i - 1]) > now:
            i -= 1
        return self.sessions[i - 1] if i > 0 else None


def horizon(today: date) -> date:
    """Return the last day of calendars: the end of next year, so that calendars change once a year."""
    return date(today.year + 1, 12, 31)


@lru_cache(maxsize=32)
def calendar(kind: Kind, span: DayRange, closures: frozenset[date] = frozenset()) -> Calendar:
    """Return the calendar of a kind of market over a span of days.

    Stocks follow the New York Stock Exchange as in exchange_calendars (holidays, early closes, ad-hoc closures); crypto
    trades every day. `closures` are additional closed days that the library may not know yet.

    Raises ValueError for stocks if the span ends after 2050.
    """
    sunday = span.start - (span.start.weekday() + 1) % 7 * ONE_DAY
    if kind is Kind.CRYPTO:
        days = tuple(d for d in span if d not in closures)
        first_week = sunday if sunday == span.start else sunday + 7 * ONE_DAY
        return Calendar(kind, span, days, (), (HOURS[kind].minutes,) * len(days), first_week)
    if span.end > new_york.LAST:
        raise ValueError(f"The calendar ends at {new_york.LAST}.")
    closed = new_york.CLOSED | closures
    open_days = [d for d in DayRange(sunday, span.end) if d.weekday() < 5 and d not in closed]
    cut = bisect_left(open_days, span.start)
    sessions = tuple(open_days[cut:])
    minutes = tuple(new_york.SHORT.get(d, new_york.FULL_MINUTES) for d in sessions)
    half_days = tuple(d for d in sessions if d in new_york.SHORT)
    first_week = sunday + 7 * ONE_DAY if cut else sunday
    return Calendar(kind, span, sessions, half_days, minutes, first_week)


def regular_hours_between(first: date, last: date) -> tuple[Int, Int]:
    """Return the beginnings and ends of regular trading of stocks, by session: int64 (n,) each.

    In milliseconds since the epoch UTC.
    """
    days = DayRange(first, last)
    known = calendar(Kind.STOCKS, DayRange(date(first.year, 1, 1), date(last.year, 12, 31)))
    hours = [[int(at.timestamp()) * 1000 for at in known.regular_hours(s)] for s in known.within(days)]
    opens, closes = np.array(hours, dtype=np.int64).reshape(-1, 2).T
    return opens, closes


def day_starts(sessions: Sequence[date], zone: ZoneInfo) -> Int:
    """Return midnight of each day in the zone, milliseconds since the epoch UTC: int64 (n,)."""
    return np.array([int(datetime.combine(d, time(0), zone).timestamp()) * 1000 for d in sessions], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SessionBars:
    """The number of bars of a session, and the start of its first and last bar (UTC).

    volume     the sum of their volumes, None where it is not needed
    half_hours  the number of bars in each half hour of the market's day, 48 bytes
    """

    session: date
    bars: int
    first: datetime
    last: datetime
    volume: float | None = None
    half_hours: bytes | None = None


def session_rows(timestamps: Int, sessions: Sequence[date], zone: ZoneInfo) -> Int:
    """Return for each bar's start the index of its session (ascending), -1 if its day is not a session: int64 (n,)."""
    if not sessions:
        return np.full(len(timestamps), -1, dtype=np.int64)
    starts = day_starts(sessions, zone)
    ends = day_starts([d + ONE_DAY for d in sessions], zone)
    index = np.searchsorted(starts, timestamps, side="right") - 1
    inside = (index >= 0) & (timestamps < ends[np.maximum(index, 0)])
    return np.where(inside, index, -1).astype(np.int64)


def count_by_session(bars: Bars, sessions: Sequence[date], zone: ZoneInfo) -> list[SessionBars]:
    """Count sorted bars by session, without sessions that have none. Every bar must belong to one of the sessions."""
    rows = session_rows(bars.timestamp, sessions, zone)
    if not len(rows):
        return []
    edges = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
    volumes = np.add.reduceat(bars.volume, edges[:-1]).tolist()
    half_hour = (bars.timestamp - day_starts(sessions, zone)[rows]) // _HALF_HOUR_MS
    by_half_hour = np.bincount(rows * HALF_HOURS + half_hour, minlength=len(sessions) * HALF_HOURS)
    counts = by_half_hour.astype(np.uint8).reshape(-1, HALF_HOURS)
    return [
        SessionBars(
            sessions[row],
            b - a,
            _instant(bars.timestamp[a]),
            _instant(bars.timestamp[b - 1]),
            volume,
            counts[row].tobytes(),
        )
        for (a, b), row, volume in zip(pairwise(edges), rows[edges[:-1]].tolist(), volumes, strict=True)
    ]


def _instant(ms: np.int64) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
