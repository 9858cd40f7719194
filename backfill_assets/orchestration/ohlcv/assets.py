"""OHLCV bars: one multi-asset a market, one asset a timeframe.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.archive.places import place_of
from backfill_assets.adapters.polygon import Traffic
from backfill_assets.adapters.polygon_files import DayFile, MarketDay, PolygonFiles
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import Written
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.deployment.runs import interruptible, run_start, step_failure
from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.errors import BackfillError, ExportError, SettingMistake, VendorError
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.runs import RunKind
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.sources import POLYGON, POLYGON_FILES
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Archive, Market, Symbol
from backfill_assets.orchestration.check_results import outcomes_of, report_checks
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.orchestration.ohlcv.checks import CHECKS, ohlcv_check_specs
from backfill_assets.orchestration.ohlcv.specs import ohlcv_spec
from backfill_assets.orchestration.partitions import cells, mark_materialized, market_partitions
from backfill_assets.orchestration.resources import Clock, MarketStore, PolygonApi, Watcher
from backfill_assets.pipelines.archive import archived_day
from backfill_assets.pipelines.audit import RecordedPlan, recorded_run
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh
from backfill_assets.pipelines.fallbacks import opener
from backfill_assets.pipelines.flat_files import ArchivedDay, FileReader, key_missing
from backfill_assets.pipelines.gaps import Watched
from backfill_assets.pipelines.health import examine
from backfill_assets.pipelines.listings import expected, in_question, known_listings, look_up_stale
from backfill_assets.pipelines.ohlcv import OtherSources, SettledSeries, fetch_missing, series_failure
from backfill_assets.pipelines.progress import Progress
from backfill_assets.pipelines.witness import ask_witness

BATCH = 200
"""Partitions of an asset that are marked together: a batch costs a few statements, as much as a dozen partitions."""


class OhlcvConfig(dg.Config):
    """How a run fetches."""

    max_concurrent: int = Field(default=3, ge=1, le=50, description="Symbols fetched at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all if empty.")
    refresh: Refresh = Field(
        default=Refresh.NOTHING,
        description="Which stored sessions are fetched again: nothing, restatements (all minutes, and the oldest day), "
        "everything, or files (flat files that are new or were replaced). Only changed rows are written.",
    )
    retry: Retry = Field(
        default=Retry.DUE,
        description="Which incomplete sessions are fetched again: those that are due, all of them now, or also those "
        "that are explained.",
    )


def ohlcv_assets(market: Market, calendar: Calendar, archives: Sequence[Archive] = ()) -> dg.AssetsDefinition:
    """Define the bars of a market: assets such as `stocks/ohlcv_1m`, partitioned by session day and symbol.

    Flat files that are in one of the `archives` are read from there.
    """

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
        days = None
        failure: BackfillError | None = None
        results: list[dg.AssetCheckResult] = []
        with interruptible(context), store.bars(config.max_concurrent + 1) as bars:
            if context.selected_asset_keys:  # empty if the checks run alone
                # What one of the two clocks takes for unfinished is not fetched: it would be stored as complete.
                now = min(clock.now(), bars.now())
                request = _request(context, config, market, calendar, now).within(known_listings(bars, market))
                days = request.days
                run = run_start(context, RunKind.OHLCV, market, clock.now())
                try:
                    async with polygon.client(bars.url, watcher.progress()) as vendor:
                        with recorded_run(bars, run, clock.now) as record:
                            record.traffic = vendor.traffic
                            files = _flat_files(market, watcher.progress(), vendor.traffic)
                            archived = _archived(archives, watcher.progress())
                            reader = FileReader(files, bars, clock.now, archived) if files else None
                            opened = opener(bars, watcher.progress())
                            fetch = fetch_missing(
                                request,
                                bars,
                                vendor,
                                clock=clock.now,
                                others=OtherSources(reader, opened),
                                at_once=config.max_concurrent,
                                progress=RecordedPlan(record, watcher.progress()),
                                run_id=run.run_id,
                            )
                            series = await _mark_settled(context, request, fetch)
                            looked_up = in_question(request, series)
                            warning = await look_up_stale(ListingStore.beside(bars), vendor, looked_up, clock.now)
                            for sentence in await ask_witness(bars, request, opened):
                                watcher.progress().waiting(sentence)
                                context.log.warning(sentence)
                            record.fetched(expected(bars, request), series)
                            failure = series_failure(request, series)
                            record.error = str(failure) if failure else None
                        if warning:
                            context.log.info(warning)
                        context.log.info(
                            "%d requests, %d of them retries.", vendor.traffic.requests, vendor.traffic.retries
                        )
                    for timeframe in request.timeframes:
                        context.log.info(_summary(timeframe, [s for s in series if s.timeframe == timeframe]))
                except (VendorError, SettingMistake) as error:
                    failure = error  # raised after the checks: Dagster shows those without a result as failed
            if checked:
                watched = Watched(market, calendar, known_listings(bars, market), Settings.read().retries)
                health = await asyncio.to_thread(examine, bars, watched, clock.now(), days)
                timeframes = {ohlcv_key(market, timeframe): timeframe for timeframe in market.timeframes}
                results = report_checks(bars, clock, outcomes_of(timeframes, checked, CHECKS, health))
        for result in results:
            yield result
        if failure:
            raise step_failure(failure) from failure

    return ohlcv


def _flat_files(market: Market, progress: Progress, traffic: Traffic) -> PolygonFiles | None:
    """Return the client of flat files, which counts its requests in `traffic`, if the market uses them.

    Raises SettingMistake if it has nothing else.
    """
    if POLYGON_FILES not in market.sources:
        return None
    files = PolygonFiles.of(Settings.read(), on_wait=progress.waiting)
    if files is None and POLYGON not in market.sources:
        raise key_missing(market)
    if files:
        files.traffic = traffic
    return files


def _archived(archives: Sequence[Archive], progress: Progress) -> ArchivedDay:
    """Return what reads files from archives, until they cannot be read: then files are downloaded."""
    if not archives:
        return lambda _: None
    readable, settings = list(archives), Settings.read()
    place = place_of(settings.archive, settings.data / "archive-parts")

    def found(file: DayFile) -> MarketDay | None:
        try:
            return archived_day(readable, place, file)
        except ExportError as error:
            readable.clear()
            progress.waiting(f"{error} Flat files are downloaded instead.")
            return None

    return found


async def _mark_settled(
    context: dg.AssetExecutionContext, request: BackfillRequest, fetch: AsyncGenerator[SettledSeries, None]
) -> list[SettledSeries]:
    """Mark the sessions of each settled series that have bars as materialized, while others are fetched; return all series.

    A session without bars stays missing.
    """
    series: list[SettledSeries] = []
    unmarked: dict[Timeframe, list[tuple[Symbol, SessionAnswer]]] = {timeframe: [] for timeframe in request.timeframes}

    async def mark(timeframe: Timeframe) -> None:
        found, unmarked[timeframe] = unmarked[timeframe], []
        await asyncio.to_thread(mark_materialized, context, ohlcv_key(request.market, timeframe), found)

    async def mark_rest() -> None:
        for timeframe in request.timeframes:
            await mark(timeframe)

    try:
        async with aclosing(fetch) as settled:
            async for one in settled:
                series.append(one)
                if one.timeframe not in unmarked:
                    continue  # the source of a requested timeframe
                fetched = (*one.wanted, *request.around(one.symbol))
                answers = (one.answers[session] for session in fetched if session in one.answers)
                unmarked[one.timeframe] += [(one.symbol, answer) for answer in answers if answer.bars]
                if len(unmarked[one.timeframe]) >= BATCH:
                    await mark(one.timeframe)
    except VendorError:
        await mark_rest()
        raise
    await mark_rest()
    return series


def _summary(timeframe: Timeframe, series: Sequence[SettledSeries]) -> str:
    written = sum((s.written for s in series), Written())
    missing = sum(len(s.missing) for s in series)
    filled = sum(len(s.wanted) for s in series) - missing
    return (
        f"{timeframe}: {filled} partitions have bars, {missing} have none; "
        f"{written.inserted} bars inserted, {written.changed} changed, {written.removed} removed, "
        f"{written.unchanged} unchanged."
    )


def _request(
    context: dg.AssetExecutionContext, config: OhlcvConfig, market: Market, calendar: Calendar, now: datetime
) -> BackfillRequest:
    """Return what the run's partitions and config select, as of `now`."""
    newest = calendar.last_finished(now)
    wanted = {
        symbol: tuple(d for d in days if newest and d <= newest and d in calendar)
        for symbol, days in cells(context.partition_keys, market).items()
        if not config.symbols or symbol.name in config.symbols
    }
    selected = context.selected_asset_keys
    timeframes = tuple(t for t in market.timeframes if ohlcv_key(market, t) in selected)
    return BackfillRequest(
        market,
        calendar,
        wanted,
        timeframes,
        now,
        refresh=config.refresh,
        retry=config.retry,
        retries=Settings.read().retries,
    )
