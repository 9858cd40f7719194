"""OHLCV bars: one multi-asset a market, one asset a timeframe.

What lives here: the factory. What does not: the flow (`pipelines.ohlcv`), the catalog's words, the events.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import dagster as dg
from pydantic import Field

from backfill_assets.assets.ohlcv_catalog import ohlcv_key, ohlcv_spec
from backfill_assets.assets.ohlcv_events import report
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.interrupts import interruptible
from backfill_assets.partitions import cells, market_partitions
from backfill_assets.pipelines.ohlcv import fill, raise_failures
from backfill_assets.pipelines.orders import Order, Refresh
from backfill_assets.resources import Clock, MarketStore, PolygonApi, Watcher


class OhlcvConfig(dg.Config):
    """How a run fetches."""

    max_concurrent: int = Field(default=3, ge=1, le=50, description="Symbols that are fetched at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all where it is empty.")
    refresh: Refresh = Field(
        default=Refresh.NOTHING,
        description="What is asked for again although it is stored: nothing, restatements (minutes, and the oldest day), "
        "or everything. Only changed rows are written.",
    )


def ohlcv_assets(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """The bars of a market: assets `[market, "ohlcv", timeframe]`, partitioned by session day and symbol."""

    @dg.multi_asset(
        name=f"{market.name}_ohlcv",
        specs=[ohlcv_spec(market, calendar, timeframe) for timeframe in market.timeframes],
        partitions_def=market_partitions(market, calendar),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    async def ohlcv(  # type: ignore[no-untyped-def]  # noqa: ANN202  # Dagster takes an annotation for the outputs' types
        context: dg.AssetExecutionContext,
        config: OhlcvConfig,
        clock: Clock,
        watcher: Watcher,
        store: MarketStore,
        polygon: PolygonApi,
    ):
        order = _order(context, config, clock)
        with interruptible(context), store.bars(config.max_concurrent) as bars:
            async with polygon.client(store.url()) as vendor:
                series = await fill(order, bars, vendor, at_once=config.max_concurrent, progress=watcher.progress())
            context.log.info("%d requests, %d of them retries.", vendor.traffic.requests, vendor.traffic.retries)
        for result in report(context, order, series):
            yield result
        raise_failures(series)

    def _order(context: dg.AssetExecutionContext, config: OhlcvConfig, clock: Clock) -> Order:
        newest = calendar.last_finished(clock.now())
        wanted = {
            symbol: tuple(d for d in days if newest and d <= newest and d in calendar)
            for symbol, days in cells(context.partition_keys, market).items()
            if not config.symbols or symbol.name in config.symbols
        }
        selected = context.selected_asset_keys
        timeframes = tuple(t for t in market.timeframes if ohlcv_key(market, t) in selected)
        return Order(market, calendar, wanted, timeframes, newest, refresh=config.refresh)

    return ohlcv
