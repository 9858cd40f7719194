"""How complete the bars of a market are: a picture, a table, and numbers that are plotted over time.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import math
from datetime import timedelta

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.gaps import repair_command, unexplained
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import sources
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import OHLCV, OWNERS, completeness_key, ohlcv_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.gaps import Watched, measure
from backfill_assets.pipelines.listings import known_listings
from backfill_assets.presentation.text import markdown


def completeness_asset(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """Define the completeness of a market's bars: asset `stocks/completeness` and the like, without partitions."""

    @dg.asset(
        key=completeness_key(market),
        group_name=f"{market.name}_{OHLCV}",
        owners=OWNERS,
        tags={"domain": "completeness", "market": market.name},
        # The derived timeframes are written with these; Dagster lists all partitions of each dependency in every run.
        deps=[ohlcv_key(market, timeframe) for timeframe in sources(market.timeframes)],
        freshness_policy=dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=3), fail_window=timedelta(hours=6)),
        description=f"Completeness of the bars of {market.name}: which expected sessions of which symbols are stored. The "
        "newest materialization shows a calendar, with shares, gaps and last bars by symbol and timeframe (`matrix`); its "
        "numbers are plotted over time.\n\nMeasured hourly and after runs of the bars, from the stored bars. The same in a "
        "terminal: `backfill status`.",
    )
    def completeness(context: dg.AssetExecutionContext, clock: Clock, store: MarketStore) -> dg.MaterializeResult[None]:
        with Store(store.url(), connections=1) as tables:
            watched = Watched(market, calendar, known_listings(tables, market), Settings.read().retries)
            found = measure(tables, watched, clock.now())
        context.log.info("%d gaps, %d sessions.", len(found.gaps), found.counts.expected)
        return dg.MaterializeResult(metadata=_metadata(found))

    return completeness


def _metadata(found: Completeness) -> dict[str, "dg.RawMetadataValue"]:
    """Count sessions of all symbols, each by its worst timeframe."""
    counts = found.counts
    metadata: dict[str, dg.RawMetadataValue] = {
        "matrix": dg.MetadataValue.md(markdown(found)),
        "complete_percent": math.floor(100_000 * counts.share) / 1000,  # rounded down: 100 only if nothing is missing
        "missing_sessions": counts.missing,
        "partial_sessions": counts.partial,
        "fallback_sessions": counts.fallback,
        "explained_sessions": counts.explained,
    }
    if command := repair_command((gap.symbol for gap in unexplained(found.gaps)), found.market):
        metadata["repair"] = command
    return metadata
