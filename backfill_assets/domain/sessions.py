"""Which days a market trades, for how long, when a day has finished, and which instants belong to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np

from backfill_assets.domain.bars import Bars, Int
from backfill_assets.domain.days import ONE_DAY, DayRange


class Kind(StrEnum):
    """The kinds of market, each with its calendar and its vendor spelling."""

    STOCKS = "stocks"
    CRYPTO = "crypto"


@dataclass(frozen=True, slots=True)
class Hours:
    """When the bars of a session may lie, in the market's own zone, and when the session counts as finished."""

    zone: ZoneInfo
    opens: time
    closes: time | None  # None: at the end of the day
    settling: timedelta  # what the vendor needs after the close until the last bars are there
    minutes: int  # the most minute bars that one session can have
    weekends: bool  # whether Saturdays and Sundays may be sessions

    def ends_at(self, session: date) -> datetime:
        """The instant, UTC, before which the session's bars begin."""
        if self.closes is None:
            end = datetime.combine(session + ONE_DAY, time(0), self.zone)
        else:
            end = datetime.combine(session, self.closes, self.zone)
        return end.astimezone(UTC)

    def finished_at(self, session: date) -> datetime:
        """The instant, UTC, from which the session's bars are final enough to be recorded as complete."""
        return self.ends_at(session) + self.settling


HOURS: dict[Kind, Hours] = {
    # Polygon's knowledge base: intraday stock bars cover 04:00 to 20:00 New York. Half days are held to the same hour:
    # late prints arrive there too. A quarter of an hour is the delay of the delayed plans.
    Kind.STOCKS: Hours(ZoneInfo("America/New_York"), time(4), time(20), timedelta(minutes=15), 16 * 60, weekends=False),
    # Polygon's documentation: crypto days are UTC days, around the clock.
    Kind.CRYPTO: Hours(ZoneInfo("UTC"), time(0), None, timedelta(0), 24 * 60, weekends=True),
}

_EXCHANGE = "XNYS"  # the New York Stock Exchange, as exchange_calendars calls it (ISO 10383)


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The sessions of a market within one span of days. Days outside the span are not sessions."""

    kind: Kind
    span: DayRange
    sessions: tuple[date, ...] = field(repr=False)
    """Every trading day of the span, ascending."""
    half_days: tuple[date, ...] = field(repr=False)
    """The sessions on which the exchange planned to close early, ascending."""
    minutes: tuple[int, ...] = field(repr=False)
    """The minutes of regular trading of each session, in the order of `sessions`."""

    @property
    def hours(self) -> Hours:
        """Zone, opening hours and settling time."""
        return HOURS[self.kind]

    def __contains__(self, day: date) -> bool:
        return self._at(day) is not None

    def _at(self, day: date) -> int | None:
        i = bisect_left(self.sessions, day)
        return i if i < len(self.sessions) and self.sessions[i] == day else None

    def within(self, days: DayRange) -> tuple[date, ...]:
        """The sessions among the days, ascending."""
        return self.sessions[bisect_left(self.sessions, days.start) : bisect_right(self.sessions, days.end)]

    def regular_minutes(self, session: date) -> int:
        """How many minutes the exchange's regular trading was planned to have: 390 for stocks, 210 where they close at
        13:00; 1440 for crypto. Bars outside it (04:00 to 20:00 New York, half days too) are not counted.

        KeyError where the day is no session.
        """
        i = self._at(session)
        if i is None:
            raise KeyError(session)
        return self.minutes[i]

    def closed_days(self) -> tuple[date, ...]:
        """Days of the span on which the market is shut, ascending, but for weekends where they never trade."""
        trading = set(self.sessions)
        return tuple(d for d in self.span if (self.hours.weekends or d.weekday() < 5) and d not in trading)

    def last_finished(self, now: datetime) -> date | None:
        """The newest session that has finished at `now` (aware), or None where none has."""
        today = now.astimezone(self.hours.zone).date()
        i = bisect_right(self.sessions, today)
        while i > 0 and self.hours.finished_at(self.sessions[i - 1]) > now:
            i -= 1
        return self.sessions[i - 1] if i > 0 else None


def horizon(today: date) -> date:
    """How far ahead calendars are laid out: the end of next year, so that a year's calendars are all alike."""
    return date(today.year + 1, 12, 31)


@lru_cache(maxsize=32)
def calendar(kind: Kind, span: DayRange, closures: frozenset[date] = frozenset()) -> Calendar:
    """The calendar of a kind of market over a span of days.

    Stocks follow the New York Stock Exchange as exchange_calendars knows it (holidays, early closes, ad-hoc closures); crypto
    trades every day. `closures` are further closed days, which the library's release may not know yet; those that it knows,
    and those outside the span, change nothing.
    """
    if kind is Kind.CRYPTO:
        days = tuple(d for d in span if d not in closures)
        return Calendar(kind, span, days, (), (HOURS[kind].minutes,) * len(days))
    known = exchange_calendars.get_calendar(_EXCHANGE, start=str(span.start), end=str(span.end + 7 * ONE_DAY))
    open_for = (known.closes - known.opens).dt.total_seconds() // 60
    minutes = {s.date(): int(m) for s, m in open_for.items() if s.date() in span and s.date() not in closures}
    half_days = tuple(d for d in (s.date() for s in known.early_closes) if d in minutes)
    return Calendar(kind, span, tuple(minutes), half_days, tuple(minutes.values()))


def day_starts(sessions: Sequence[date], zone: ZoneInfo) -> Int:
    """Midnight of each day in the zone, milliseconds since the epoch UTC: int64 (n,)."""
    return np.array([int(datetime.combine(d, time(0), zone).timestamp()) * 1000 for d in sessions], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SessionBars:
    """How many bars one session has, and its first and last bar start (UTC)."""

    session: date
    bars: int
    first: datetime
    last: datetime


def session_rows(bars: Bars, sessions: Sequence[date], zone: ZoneInfo) -> Int:
    """For each bar the index of its session, -1 where its day is none: int64 (n,). Sessions ascend."""
    if not sessions:
        return np.full(len(bars), -1, dtype=np.int64)
    starts = day_starts(sessions, zone)
    ends = day_starts([d + ONE_DAY for d in sessions], zone)
    index = np.searchsorted(starts, bars.timestamp, side="right") - 1
    inside = (index >= 0) & (bars.timestamp < ends[np.maximum(index, 0)])
    return np.where(inside, index, -1).astype(np.int64)


def count_by_session(bars: Bars, sessions: Sequence[date], zone: ZoneInfo) -> list[SessionBars]:
    """Sorted bars counted by session; sessions without bars are absent. Bars of other days must be gone already."""
    rows = session_rows(bars, sessions, zone)
    edges = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)] if len(rows) else []
    return [
        SessionBars(sessions[int(rows[a])], b - a, _instant(bars.timestamp[a]), _instant(bars.timestamp[b - 1]))
        for a, b in pairwise(edges)
    ]


def _instant(ms: np.int64) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
