"""How complete the bars of a market are. Every expected session of a symbol is counted once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from backfill_assets.domain.gaps import Gap, Reason, unexplained
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.timeframes import WEEK_1
from backfill_assets.domain.universe import Market

type SessionStates = npt.NDArray[np.int8]
"""One SessionState per session."""


class SessionState(IntEnum):
    """The state of a session, in ascending order of severity. An expected session has one of the last five."""

    NOT_EXPECTED = 0  # before the symbol's listing or after its end
    COMPLETE = 1
    FALLBACK = 2  # has the bars of a fallback, because the first source has none
    EXPLAINED = 3  # confirmed empty, confirmed partial, or not in the vendor's plan: another request is useless
    PARTIAL = 4  # far fewer minutes than likely, not yet confirmed
    MISSING = 5  # no bars, for no known reason

    @property
    def label(self) -> str:
        """The name for a person: `not expected`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Counts:
    """Expected sessions by state."""

    complete: int = 0
    explained: int = 0
    partial: int = 0
    missing: int = 0
    fallback: int = 0

    @classmethod
    def of(cls, states: SessionStates) -> Counts:
        """Count states, without sessions that are not expected."""
        found = np.bincount(states.ravel(), minlength=len(SessionState))
        return cls(**{field.name: int(found[SessionState[field.name.upper()]]) for field in fields(cls)})

    @property
    def expected(self) -> int:
        """All expected sessions."""
        return self.complete + self.fallback + self.explained + self.partial + self.missing

    @property
    def share(self) -> float:
        """The share of expected sessions that are complete, 0 to 1; 1 if none is expected."""
        return self.complete / self.expected if self.expected else 1.0

    @property
    def worst(self) -> SessionState:
        """The state of the worst session."""
        found = (state for state in reversed(SessionState) if state and getattr(self, state.name.lower()))
        return next(found, SessionState.NOT_EXPECTED)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))


@dataclass(frozen=True, slots=True)
class SeriesCompleteness:
    """The completeness of one timeframe of a symbol. `last_bar` is the start of its newest bar, UTC; None without bars."""

    symbol: str
    timeframe: str
    counts: Counts
    gaps: tuple[Gap, ...]
    last_bar: datetime | None

    @property
    def open_gaps(self) -> list[Gap]:
        """The gaps that are not explained."""
        return unexplained(self.gaps)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The completeness of a symbol: its timeframes in the market's order, and for each session of the market the worst
    state.
    """

    symbol: str
    series: tuple[SeriesCompleteness, ...]
    states: SessionStates

    @property
    def counts(self) -> Counts:
        """Sessions by state; a session is complete if it is complete in all timeframes."""
        return Counts.of(self.states)

    @property
    def open_gaps(self) -> list[Gap]:
        """The gaps of all timeframes that are not explained."""
        return [gap for series in self.series for gap in series.open_gaps]

    @property
    def last_bar(self) -> datetime | None:
        """The start of the newest bar in any timeframe, UTC."""
        return max((s.last_bar for s in self.series if s.last_bar), default=None)

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the next open gap is due, UTC; None if none will be."""
        return min((g.next_attempt_at for g in self.open_gaps if g.next_attempt_at), default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Completeness:
    """The completeness of a market at `at` (UTC): one row per symbol, over its finished sessions (ascending)."""

    market: str
    at: datetime
    sessions: tuple[date, ...]
    timeframes: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Counts:
        """The sessions of all symbols; a session of two symbols is counted twice."""
        return sum((row.counts for row in self.rows), Counts())

    @property
    def gaps(self) -> list[Gap]:
        """All gaps, by symbol and timeframe in the market's order."""
        return [gap for row in self.rows for series in row.series for gap in series.gaps]


def completeness(
    market: Market,
    sessions: Sequence[date],
    listings: Mapping[str, Listing],
    gaps: Iterable[Gap],
    last_bars: Mapping[tuple[str, str], datetime],
    at: datetime,
    first_week: date = date.min,
) -> Completeness:
    """Count the sessions of a market's symbols over finished sessions (ascending), from all gaps found in them.

    `last_bars` by symbol and timeframe name. Weekly bars are expected from `first_week` on, which is a Sunday. A session in a
    gap is expected, even outside the listing.
    """
    by_series: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        by_series.setdefault((gap.symbol, gap.timeframe), []).append(gap)
    rows = []
    for symbol in market.symbols:
        series, worst = [], np.zeros(len(sessions), np.int8)
        for timeframe in market.timeframes:
            key = (symbol.name, timeframe.name)
            own = by_series.get(key, [])
            states = session_states(sessions, listings.get(symbol.name, UNKNOWN), own)
            if timeframe == WEEK_1:
                states[: bisect_left(sessions, first_week)] = SessionState.NOT_EXPECTED
            np.maximum(worst, states, out=worst)
            series.append(SeriesCompleteness(*key, Counts.of(states), tuple(own), last_bars.get(key)))
        rows.append(Row(symbol.name, tuple(series), worst))
    return Completeness(market.name, at, tuple(sessions), tuple(t.name for t in market.timeframes), tuple(rows))


def session_states(sessions: Sequence[date], listing: Listing, gaps: Iterable[Gap]) -> SessionStates:
    """Return the state of each session (ascending) of one series: int8 (n,)."""
    found = np.full(len(sessions), SessionState.NOT_EXPECTED, np.int8)
    found[listing.expected(sessions)] = SessionState.COMPLETE
    for gap in gaps:
        found[bisect_left(sessions, gap.days.start) : bisect_right(sessions, gap.days.end)] = _state(gap)
    return found


def _state(gap: Gap) -> SessionState:
    if gap.reason is Reason.FALLBACK:
        return SessionState.FALLBACK
    if gap.explained:
        return SessionState.EXPLAINED
    return SessionState.PARTIAL if gap.reason is Reason.PARTIAL else SessionState.MISSING
