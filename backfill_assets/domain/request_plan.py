"""The fewest requests that cover what is missing.

What lives here: pure planning, from missing sessions to ranges to ask for. What does not: asking, and knowing what is
missing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import Base, Timeframe
from backfill_assets.domain.universe import Symbol

PAGE = 50_000
"""Base bars a page holds at the most: Polygon's documented maximum of `limit`."""


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """One symbol's bars of one timeframe over sessions that follow each other; the vendor may answer in `pages` pages."""

    symbol: Symbol
    timeframe: Timeframe
    sessions: tuple[date, ...]
    """What is asked for, first to last, answered sessions in between included: int (n ≥ 1)."""
    pages: int
    """The most requests that it can take."""

    @property
    def start(self) -> date:
        """First session asked for."""
        return self.sessions[0]

    @property
    def end(self) -> date:
        """Last session asked for."""
        return self.sessions[-1]


def sessions_a_page(timeframe: Timeframe, calendar: Calendar) -> int:
    """How many sessions fit on one page for certain, however many bars they have."""
    return PAGE // (calendar.hours.minutes if timeframe.base is Base.MINUTE else 1)


def plan_series(
    symbol: Symbol, timeframe: Timeframe, missing: Collection[date], calendar: Calendar
) -> list[RangeRequest]:
    """The requests for one series: fewest in number, and among neighbours joined so that half-full pages run together.

    Windows of one page are laid from the first session not yet covered: no other choice needs fewer. A window that
    begins right where the last one ended is asked for as one range, whose pages the vendor fills to the brim.
    Sessions that the calendar does not have are not asked for.
    """
    capacity = sessions_a_page(timeframe, calendar)
    spans = _windows(sorted(set(missing)), calendar.sessions, capacity)
    return [
        RangeRequest(symbol, timeframe, calendar.sessions[a : b + 1], -(-(b + 1 - a) // capacity)) for a, b in spans
    ]


def _windows(missing: Sequence[date], sessions: Sequence[date], capacity: int) -> list[tuple[int, int]]:
    """Index pairs (first, last) into `sessions`."""
    spans: list[tuple[int, int]] = []
    limit = -1  # the last index that the page of the newest span still reaches
    for day in missing:
        i = bisect_left(sessions, day)
        if i == len(sessions) or sessions[i] != day:
            continue
        if spans and i <= limit:
            spans[-1] = (spans[-1][0], i)
            continue
        if spans and i == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], i)
        else:
            spans.append((i, i))
        limit = i + capacity - 1
    return spans


def pages_of(requests: Iterable[RangeRequest]) -> int:
    """The most HTTP requests that a plan takes, retries aside."""
    return sum(r.pages for r in requests)
