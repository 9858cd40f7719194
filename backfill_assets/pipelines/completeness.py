"""Measure how complete a market is."""

from __future__ import annotations

from datetime import datetime

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.completeness import Completeness, completeness
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.pipelines.gaps import Watched, find_gaps
from backfill_assets.pipelines.minutes import judge_minutes


def measure(store: Store, watched: Watched, now: datetime) -> Completeness:
    """Measure a market at `now`; this also updates the marks of partial sessions and the table of gaps."""
    market = watched.market
    symbols = [s.name for s in market.symbols]
    if MINUTE_1 in market.timeframes:
        judge_minutes(SeriesStore.beside(store), symbols, watched.calendar)
    gaps = find_gaps(GapStore.beside(store), watched, now)
    last_bars = SeriesStore.beside(store).last_bars(symbols, market.timeframes)
    return completeness(market, watched.finished(now).sessions, watched.listings, gaps, last_bars, now)
