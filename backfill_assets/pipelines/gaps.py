"""Find the gaps of a market, and keep the table of gaps up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product

from backfill_assets.adapters.store.base import reconnecting
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gap_history import reconcile
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import Calendar
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
