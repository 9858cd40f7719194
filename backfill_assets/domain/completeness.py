"""How complete the bars of a market are: every expected session of every symbol, counted once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from backfill_assets.domain.gaps import Gap, Reason, unexplained
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.universe import Market

type SessionStates = npt.NDArray[np.int8]
"""One SessionState a session."""


class SessionState(IntEnum):
    """How a session stands; of several, the greatest tells most. Every expected one is exactly one of the last four."""

    NOT_EXPECTED = 0  # before the symbol's listing or after its end
    COMPLETE = 1
    EXPLAINED = 2  # confirmed empty, confirmed thin, or not in the vendor's plan: asking again is of no use
    PARTIAL = 3  # far fewer minutes than is likely, and not yet confirmed
    MISSING = 4  # no bars, for no reason that is known

    @property
    def word(self) -> str:
        """As a person reads it: `not expected`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Counts:
    """Expected sessions by how they stand."""

    complete: int = 0
    explained: int = 0
    partial: int = 0
    missing: int = 0

    @classmethod
    def of(cls, standings: SessionStates) -> Counts:
        """Counted from standings, those that are not expected left out."""
        found = np.bincount(standings.ravel(), minlength=len(SessionState))
        return cls(*(int(n) for n in found[SessionState.COMPLETE :]))

    @property
    def expected(self) -> int:
        """All of them."""
        return self.complete + self.explained + self.partial + self.missing

    @property
    def share(self) -> float:
        """The complete ones of those expected, 0 to 1; 1 where none is expected."""
        return self.complete / self.expected if self.expected else 1.0

    @property
    def standing(self) -> SessionState:
        """Of the session that stands worst."""
        worst = (
            (self.missing, SessionState.MISSING),
            (self.partial, SessionState.PARTIAL),
            (self.explained, SessionState.EXPLAINED),
        )
        return next((s for n, s in worst if n), SessionState.COMPLETE if self.complete else SessionState.NOT_EXPECTED)


@dataclass(frozen=True, slots=True)
class SeriesCompleteness:
    """How one timeframe of a symbol stands. `last_bar` is the start of its newest bar, UTC; None where it has none."""

    symbol: str
    timeframe: str
    counts: Counts
    gaps: tuple[Gap, ...]
    last_bar: datetime | None

    @property
    def open_gaps(self) -> list[Gap]:
        """Those that nothing explains."""
        return unexplained(self.gaps)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """How a symbol stands: its timeframes, in the market's order, and each session as its worst timeframe has it.

    `standings` has a value for each session of the market.
    """

    symbol: str
    series: tuple[SeriesCompleteness, ...]
    standings: SessionStates

    @property
    def counts(self) -> Counts:
        """Its sessions; one is complete where it is so in all timeframes."""
        return Counts.of(self.standings)

    @property
    def open_gaps(self) -> list[Gap]:
        """Those that nothing explains, of all timeframes."""
        return [gap for series in self.series for gap in series.open_gaps]

    @property
    def last_bar(self) -> datetime | None:
        """The start of its newest bar in any timeframe, UTC."""
        return max((s.last_bar for s in self.series if s.last_bar), default=None)

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the first of its open gaps falls due, UTC; None where none does."""
        return min((g.next_attempt_at for g in self.open_gaps if g.next_attempt_at), default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Completeness:
    """How a market stands at an instant `at` (UTC): a row a symbol, over its finished sessions (ascending)."""

    market: str
    at: datetime
    sessions: tuple[date, ...]
    timeframes: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Counts:
        """The sessions of all symbols, a session of two symbols counted twice."""
        return sum_of(row.counts for row in self.rows)

    @property
    def gaps(self) -> list[Gap]:
        """All of them, ascending by symbol and timeframe as the market has them."""
        return [gap for row in self.rows for series in row.series for gap in series.gaps]


def sum_of(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    found = list(counts)
    return Counts(
        sum(c.complete for c in found),
        sum(c.explained for c in found),
        sum(c.partial for c in found),
        sum(c.missing for c in found),
    )


def completeness(
    market: Market,
    sessions: Sequence[date],
    listings: Mapping[str, Listing],
    gaps: Iterable[Gap],
    last_bars: Mapping[tuple[str, str], datetime],
    at: datetime,
) -> Completeness:
    """Count a market's symbols over finished sessions (ascending), from all gaps found in them.

    `last_bars` by symbol and timeframe name. A session of a gap is expected, whatever the listing says.
    """
    of_series: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        of_series.setdefault((gap.symbol, gap.timeframe), []).append(gap)
    rows = []
    for symbol in market.symbols:
        series, worst = [], np.zeros(len(sessions), np.int8)
        for timeframe in market.timeframes:
            key = (symbol.name, timeframe.name)
            own = of_series.get(key, [])
            standings = standings_of(sessions, listings.get(symbol.name, UNKNOWN), own)
            np.maximum(worst, standings, out=worst)
            series.append(SeriesCompleteness(*key, Counts.of(standings), tuple(own), last_bars.get(key)))
        rows.append(Row(symbol.name, tuple(series), worst))
    return Completeness(market.name, at, tuple(sessions), tuple(t.name for t in market.timeframes), tuple(rows))


def standings_of(sessions: Sequence[date], listing: Listing, gaps: Iterable[Gap]) -> SessionStates:
    """How each of the sessions (ascending) of one series stands: int8 (n,)."""
    found = np.full(len(sessions), SessionState.COMPLETE, np.int8)
    if listing.listed:
        found[: bisect_left(sessions, listing.listed)] = SessionState.NOT_EXPECTED
    if listing.delisted:
        found[bisect_right(sessions, listing.delisted) :] = SessionState.NOT_EXPECTED
    for gap in gaps:
        found[bisect_left(sessions, gap.days.start) : bisect_right(sessions, gap.days.end)] = _standing(gap)
    return found


def _standing(gap: Gap) -> SessionState:
    if gap.explained:
        return SessionState.EXPLAINED
    return SessionState.PARTIAL if gap.reason is Reason.PARTIAL else SessionState.MISSING
