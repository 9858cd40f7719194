"""How complete a market's bars are, as an asset: a table, a picture, and numbers that Dagit plots.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import math

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import sources
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import OWNERS, completeness_key, ohlcv_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.completeness import measure
from backfill_assets.pipelines.gaps import Watched
from backfill_assets.pipelines.listings import known_listings
from backfill_assets.presentation.text import markdown, repair_command


def completeness_asset(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """How complete a market's bars are: asset `[market, "completeness"]`, without partitions."""

    @dg.asset(
        key=completeness_key(market),
        group_name=market.name,
        owners=OWNERS,
        tags={"domain": "completeness", "market": market.name},
        # The others are made in the transactions of these. For each of them Dagster lists all partitions in every run.
        deps=[ohlcv_key(market, timeframe) for timeframe in sources(market.timeframes)],
        description=f"{market.name.capitalize()}: which expected sessions of which symbols are there. Its newest "
        "materialization holds the calendar as a picture, with shares, gaps and last bars by symbol and timeframe "
        "(`matrix`); its numbers are plotted over time.\n\nMeasured hourly, and when runs of the bars have ended. "
        "Nothing is fetched. The same in a terminal: `backfill status`.",
    )
    def completeness(context: dg.AssetExecutionContext, clock: Clock, store: MarketStore) -> dg.MaterializeResult[None]:
        with Store(store.url(), connections=1) as tables:
            watched = Watched(market, calendar, known_listings(tables, market), Settings.read().retries)
            found = measure(tables, watched, clock.now())
        context.log.info("%d gaps, %d sessions.", len(found.gaps), found.counts.expected)
        return dg.MaterializeResult(metadata=_metadata(found))

    return completeness


def _metadata(found: Completeness) -> dict[str, "dg.RawMetadataValue"]:
    """Sessions are those of all symbols; one counts as its worst timeframe."""
    counts = found.counts
    metadata: dict[str, dg.RawMetadataValue] = {
        "matrix": dg.MetadataValue.md(markdown(found)),
        "complete_percent": math.floor(100_000 * counts.share) / 1000,  # 100 is said of nothing that lacks a session
        "missing_sessions": counts.missing,
        "partial_sessions": counts.partial,
        "explained_sessions": counts.explained,
    }
    if command := repair_command(found.gaps):
        metadata["repair"] = command
    return metadata
