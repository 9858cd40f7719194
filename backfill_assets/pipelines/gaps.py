"""Find the gaps and partial sessions of a market, record them, and measure how complete the market is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import product

import numpy as np

from backfill_assets.adapters.store.base import Store, reconnecting
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.completeness import Completeness, completeness
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gap_history import reconcile
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.minutes import likely_minutes, partial
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.domain.universe import Market, Universe


@dataclass(frozen=True, slots=True)
class Watched:
    """A market with what its gaps depend on: its sessions, its known listings by symbol name, and the retries."""

    market: Market
    calendar: Calendar
    listings: Mapping[str, Listing]
    retries: Retries

    def finished(self, now: datetime) -> Calendar:
        """Return the calendar up to the last finished session."""
        newest = self.calendar.last_finished(now)
        if newest is None:
            return replace(self.calendar, sessions=())
        return replace(self.calendar, sessions=self.calendar.within(DayRange(self.market.start, newest)))


@reconnecting
def find_gaps(store: GapStore, watched: Watched, now: datetime) -> list[Gap]:
    """Return all gaps of a market at `now`, ascending by symbol and timeframe, and bring the table of gaps up to date."""
    market, calendar = watched.market, watched.finished(now)
    finder = GapFinder(calendar, watched.retries)
    found: list[Gap] = []
    with store.locked([s.name for s in market.symbols], market.timeframes, calendar.sessions, watched.listings) as rows:
        for symbol, timeframe in product(market.symbols, market.timeframes):
            missing = rows.missing.get((symbol.name, timeframe.name), [])
            incomplete = rows.incomplete.get((symbol.name, timeframe.source.name), {})
            if missing or incomplete:
                found += finder.gaps(symbol.name, timeframe, missing, incomplete)
        rows.apply(reconcile(rows.known, found, calendar, watched.listings, now), now)
    return found


def series_of(universe: Universe) -> Iterable[tuple[str, str]]:
    """Return every series of a universe as (symbol, timeframe name)."""
    return ((s.name, t.name) for m in universe.markets for s in m.symbols for t in m.timeframes)


@dataclass(frozen=True, slots=True)
class ThinSession:
    """A session with far fewer minute bars than is likely from the symbol's other sessions."""

    symbol: str
    session: date
    bars: int
    likely: int


def judge_minutes(store: SeriesStore, symbols: Sequence[str], calendar: Calendar) -> list[ThinSession]:
    """Examine all stored sessions of the symbols, update their marks, and return the partial sessions, ascending."""
    found: list[ThinSession] = []
    marks: dict[tuple[str, date], bool] = {}
    for symbol, counts in sorted(store.minute_counts(symbols, calendar.span).items()):
        judged = [c for c in counts if c.session in calendar]
        bars = np.array([c.bars for c in judged], np.int64)
        regular = np.array([calendar.regular_minutes(c.session) for c in judged], np.int64)
        likely, _ = likely_minutes(bars, regular)
        thin = partial(bars, regular)
        for i, count in enumerate(judged):
            if thin[i]:
                found.append(ThinSession(symbol, count.session, count.bars, round(float(likely[i]))))
            if bool(thin[i]) != count.partial:
                marks[symbol, count.session] = bool(thin[i])
    store.mark_partial(marks)
    return found


def measure(store: Store, watched: Watched, now: datetime) -> Completeness:
    """Measure a market at `now`; this also updates the marks of partial sessions and the table of gaps."""
    market = watched.market
    symbols = [s.name for s in market.symbols]
    if MINUTE_1 in market.timeframes:
        judge_minutes(SeriesStore.beside(store), symbols, watched.calendar)
    gaps = find_gaps(GapStore.beside(store), watched, now)
    last_bars = SeriesStore.beside(store).last_bars(symbols, market.timeframes)
    calendar = watched.finished(now)
    return completeness(market, calendar.sessions, watched.listings, gaps, last_bars, now, calendar.first_week)
