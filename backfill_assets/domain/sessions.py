"""Which days a market trades, when a day has finished, and which instants belong to it.

What lives here: the calendars of the two kinds of market, by exchange_calendars. What does not: partitions, the clock
(every function that needs the present takes it), and what was stored.
"""

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

    def finished_at(self, session: date) -> datetime:
        """The instant, UTC, from which the session's bars are final enough to be recorded as complete."""
        if self.closes is None:
            end = datetime.combine(session + ONE_DAY, time(0), self.zone)
        else:
            end = datetime.combine(session, self.closes, self.zone)
        return end.astimezone(UTC) + self.settling


HOURS: dict[Kind, Hours] = {
    # Polygon's knowledge base: intraday stock bars cover 04:00 to 20:00 New York. Half days are held to the same hour:
    # late prints arrive there too. A quarter of an hour is the delay of the delayed plans.
    Kind.STOCKS: Hours(ZoneInfo("America/New_York"), time(4), time(20), timedelta(minutes=15), 16 * 60),
    # Polygon's documentation: crypto days are UTC days, around the clock.
    Kind.CRYPTO: Hours(ZoneInfo("UTC"), time(0), None, timedelta(0), 24 * 60),
}

_EXCHANGE = {Kind.STOCKS: "XNYS", Kind.CRYPTO: "24/7"}


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The sessions of a market within one span of days. Days outside the span are not sessions."""

    kind: Kind
    span: DayRange
    sessions: tuple[date, ...] = field(repr=False)
    """Every trading day of the span, ascending."""

    @property
    def hours(self) -> Hours:
        """Zone, opening hours and settling time."""
        return HOURS[self.kind]

    def __contains__(self, day: date) -> bool:
        i = bisect_left(self.sessions, day)
        return i < len(self.sessions) and self.sessions[i] == day

    def within(self, days: DayRange) -> tuple[date, ...]:
        """The sessions among the days, ascending."""
        return self.sessions[bisect_left(self.sessions, days.start) : bisect_right(self.sessions, days.end)]

    def closed_weekdays(self) -> tuple[date, ...]:
        """Mondays to Fridays of the span on which the market is shut: holidays and ad-hoc closures."""
        trading = set(self.sessions)
        return tuple(d for d in self.span if d.weekday() < 5 and d not in trading)

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
def calendar(kind: Kind, span: DayRange) -> Calendar:
    """The calendar of a kind of market over a span of days.

    Stocks follow the New York Stock Exchange as exchange_calendars knows it (holidays, ad-hoc closures); crypto trades
    every day. Days that the library's release does not know yet are no sessions.
    """
    if kind is Kind.CRYPTO:
        return Calendar(kind, span, tuple(span))
    known = exchange_calendars.get_calendar(_EXCHANGE[kind], start=str(span.start), end=str(span.end + 7 * ONE_DAY))
    days = tuple(d for d in (s.date() for s in known.sessions) if d in span)
    return Calendar(kind, span, days)


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
