"""The sensor that has flat files read when they are published or replaced.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import dagster as dg

from backfill_assets.adapters.polygon_files import DayFile, PolygonFiles
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.sources import SourceStore
from backfill_assets.deployment.private_api import records_needed
from backfill_assets.deployment.runs import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import BackfillError
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.sources import POLYGON_FILES
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.orchestration.in_flight import in_progress
from backfill_assets.orchestration.keys import OHLCV
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh
from backfill_assets.pipelines.flat_files import unread

EVERY_SECONDS = 1800
WATCHED = timedelta(days=30)
"""How far back files are compared with what was read of them."""


def flat_files_sensor(
    universe: Universe, calendars: Mapping[str, Calendar], jobs: Iterable["dg.UnresolvedAssetJobDefinition"]
) -> dg.SensorDefinition:
    """Define one sensor for all markets with flat files, on by default. `jobs` fetch their bars."""

    @dg.sensor(
        name="flat_files",
        jobs=list(jobs),
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Has flat files of the last {WATCHED.days} days read that are new or were replaced: missing sessions "
        "are filled, and bars of the REST API compared with them.",
    )
    @records_needed()
    def flat_files(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        requests, sentences = [], []
        try:
            files = PolygonFiles.of(Settings.read())
            if files is None:
                return dg.SensorResult(skip_reason="POLYGON_FILES_ACCESS_KEY_ID is not set: flat files are not read.")
            with SourceStore(store.url(), connections=1) as read:
                for market in universe.markets:
                    if POLYGON_FILES not in market.sources:
                        continue
                    if busy := in_progress(context.instance, [], market, OHLCV):
                        sentences.append(f"{market.name}: {busy} is in progress.")
                        continue
                    request = _watched(market, calendars[market.name], clock.now())
                    new = asyncio.run(unread(files, read, request))
                    found = [file for some in new.values() for file in some]
                    sessions = {file.session for file in found}
                    if found:
                        requests.append(_run(market, found, clock.now()))
                    sentences.append(f"{market.name}: {len(sessions)} sessions have files to read.")
        except BackfillError as error:
            return dg.SensorResult(skip_reason=f"{error}.")
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else " ".join(sentences))

    return flat_files


def _watched(market: Market, calendar: Calendar, now: datetime) -> BackfillRequest:
    newest = calendar.last_finished(now)
    first = max(now.date() - WATCHED, market.start)
    days = calendar.within(DayRange(first, newest)) if newest and newest >= first else ()
    wanted = dict.fromkeys(market.symbols, days)
    return BackfillRequest(market, calendar, wanted, market.timeframes, now, refresh=Refresh.FILES)


def _run(market: Market, files: list[DayFile], now: datetime) -> dg.RunRequest:
    """Request the run that reads files. A damaged one stays unread: the same files are requested four times a day."""
    first, last = market.symbols[0], market.symbols[-1]
    sessions = sorted(file.session for file in files)
    versions = hashlib.sha256(" ".join(sorted(f"{file.key} {file.etag}" for file in files)).encode()).hexdigest()[:16]
    return dg.RunRequest(
        job_name=f"{market.name}_ohlcv_job",
        run_key=f"{market.name} {now:%Y-%m-%d} {now.hour // 6} {versions}",
        run_config={"ops": {f"{market.name}_ohlcv": {"config": {"refresh": Refresh.FILES.name}}}},
        tags={
            RANGE_START_TAG: partition_key(sessions[0], first),
            RANGE_END_TAG: partition_key(sessions[-1], last),
            TRIGGER_TAG: "flat files",
        },
    )
