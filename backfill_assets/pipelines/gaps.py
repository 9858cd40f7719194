"""Finding the gaps of a market, and keeping the table of gaps true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from backfill_assets.adapters.store.gaps import GapStore, Recorded
from backfill_assets.domain.answers import Answers
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gap_history import Change, reconcile
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market, Universe

_NOTHING: Answers = {}


@dataclass(frozen=True, slots=True)
class Watched:
    """A market whose gaps are looked for. `calendar` holds its sessions, `listings` what is known, by symbol name."""

    market: Market
    calendar: Calendar
    listings: Mapping[str, Listing]
    retries: Retries

    def finished(self, now: datetime) -> Calendar:
        """The calendar up to the last session that has finished."""
        newest = self.calendar.last_finished(now)
        if newest is None:
            return replace(self.calendar, sessions=())
        return replace(self.calendar, sessions=self.calendar.within(DayRange(self.market.start, newest)))


def find_gaps(store: GapStore, watched: Watched, now: datetime) -> list[Gap]:
    """All gaps of a market at `now`, ascending by symbol and timeframe; the table of gaps is made to say the same."""
    market = watched.market
    calendar = watched.finished(now)
    symbols = [s.name for s in market.symbols]
    found: list[Gap] = []

    def judge(recorded: Recorded) -> Change:
        found[:] = gaps_in(recorded, market, GapFinder(calendar, watched.retries))
        return reconcile(recorded.known, found, calendar, watched.listings, now)

    store.compare(symbols, market.timeframes, calendar.sessions, watched.listings, judge, now)
    return found


def gaps_in(recorded: Recorded, market: Market, finder: GapFinder) -> list[Gap]:
    """The gaps of a market by what the tables say."""
    found: list[Gap] = []
    for symbol in market.symbols:
        for timeframe in market.timeframes:
            lacking = recorded.lacking.get((symbol.name, timeframe.name), [])
            incomplete = recorded.incomplete.get((symbol.name, timeframe.source.name), _NOTHING)
            if lacking or incomplete:
                found += finder.gaps(symbol.name, timeframe, lacking, incomplete)
    return found


def series_of(universe: Universe) -> Iterable[tuple[str, str]]:
    """Every series that a universe keeps: symbol and timeframe name."""
    return ((s.name, t.name) for m in universe.markets for s in m.symbols for t in m.timeframes)
