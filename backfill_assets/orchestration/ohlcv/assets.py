"""OHLCV bars: one multi-asset a market, one asset a timeframe.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
import os
from datetime import datetime

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.runs import interruptible, run_start
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.retries import Retries, Retry
from backfill_assets.domain.run_record import RunKind
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import report_checks
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.orchestration.ohlcv.checks import ohlcv_check_outcomes, ohlcv_check_specs
from backfill_assets.orchestration.ohlcv.materializations import Materializations
from backfill_assets.orchestration.ohlcv.specs import ohlcv_spec
from backfill_assets.orchestration.partitions import cells, market_partitions
from backfill_assets.orchestration.resources import Clock, MarketStore, PolygonApi, Watcher
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh
from backfill_assets.pipelines.gaps import Watched
from backfill_assets.pipelines.health import Health, examine
from backfill_assets.pipelines.listings import known_listings
from backfill_assets.pipelines.runs import fetch_recorded


class OhlcvConfig(dg.Config):
    """How a run fetches."""

    max_concurrent: int = Field(default=3, ge=1, le=50, description="Symbols that are fetched at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all where it is empty.")
    refresh: Refresh = Field(
        default=Refresh.NOTHING,
        description="What is asked for again although it is stored: nothing, restatements (minutes, and the oldest day), "
        "or everything. Only changed rows are written.",
    )
    retry: Retry = Field(
        default=Retry.DUE,
        description="What is asked for again of the sessions that came back empty or with too little: what is due, "
        "all of them now, or also those that are explained.",
    )


def ohlcv_assets(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """The bars of a market: assets such as `stocks/ohlcv_1m`, partitioned by session day and symbol."""

    @dg.multi_asset(
        name=f"{market.name}_ohlcv",
        specs=[ohlcv_spec(market, calendar, timeframe) for timeframe in market.timeframes],
        partitions_def=market_partitions(market, calendar),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        check_specs=ohlcv_check_specs(market),
    )
    async def ohlcv(  # type: ignore[no-untyped-def]  # noqa: ANN202  # Dagster takes an annotation for the outputs' types
        context: dg.AssetExecutionContext,
        config: OhlcvConfig,
        clock: Clock,
        watcher: Watcher,
        store: MarketStore,
        polygon: PolygonApi,
    ):
        checked = context.selected_asset_check_keys
        filled, health = None, None
        with interruptible(context), store.bars(config.max_concurrent + 1) as bars:

            async def examined(days: DayRange | None) -> Health | None:
                if not checked:
                    return None
                watched = Watched(market, calendar, known_listings(bars, market), retries())
                return await asyncio.to_thread(examine, bars, watched, clock.now(), days)

            if context.selected_asset_keys:
                order = _order(context, config, market, calendar, clock.now()).within(known_listings(bars, market))
                run = run_start(context, RunKind.OHLCV, market, clock.now())
                async with (
                    polygon.client(store.url()) as vendor,
                    Materializations(context, bars, order, watcher.progress()) as materializations,
                ):
                    filled = await fetch_recorded(
                        run, order, bars, vendor, clock.now, config.max_concurrent, materializations
                    )
                    for sentence in filled.said:
                        context.log.info(sentence)
                    examining = asyncio.create_task(examined(filled.order.days))  # the database's work, beside ours
                    try:
                        await materializations.rest(filled.series)
                    finally:
                        health = await examining
            else:  # the checks run alone
                health = await examined(None)
        if health:
            for result in report_checks(store, clock, ohlcv_check_outcomes(market, checked, health)):
                yield result
        if filled and filled.failure:
            raise filled.failure

    return ohlcv


def _order(
    context: dg.AssetExecutionContext, config: OhlcvConfig, market: Market, calendar: Calendar, now: datetime
) -> BackfillRequest:
    """What the run's partitions and config ask for, as of `now`."""
    newest = calendar.last_finished(now)
    wanted = {
        symbol: tuple(d for d in days if newest and d <= newest and d in calendar)
        for symbol, days in cells(context.partition_keys, market).items()
        if not config.symbols or symbol.name in config.symbols
    }
    selected = context.selected_asset_keys
    timeframes = tuple(t for t in market.timeframes if ohlcv_key(market, t) in selected)
    return BackfillRequest(
        market, calendar, wanted, timeframes, now, refresh=config.refresh, retry=config.retry, retries=retries()
    )


def retries() -> Retries:
    """The pauses between attempts, as the environment says."""
    return Settings.read(os.environ).retries
