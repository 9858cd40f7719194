"""Archives: one multi-asset each, one asset a timeframe, partitioned by session.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import aclosing
from datetime import UTC, date, datetime

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.archive.places import Place, place_of
from backfill_assets.adapters.archive.sessions import name_of
from backfill_assets.adapters.polygon_files import PolygonFiles
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.base import Store
from backfill_assets.deployment.private_api import log_materializations
from backfill_assets.deployment.runs import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG, interruptible, step_failure
from backfill_assets.domain.errors import BackfillError, SettingMistake, VendorError
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Archive
from backfill_assets.orchestration.archives.checks import archive_check_specs, outcomes
from backfill_assets.orchestration.check_results import report_checks
from backfill_assets.orchestration.keys import ARCHIVE, OWNERS, archive_key
from backfill_assets.orchestration.partitions import session_days
from backfill_assets.orchestration.resources import Clock, MarketStore, Watcher
from backfill_assets.pipelines.archive import NOT_LISTED, Settled, fetch_sessions, last_published

CHUNK = 20
"""Sessions of a run that a backfill launches: few enough to spread over workers, enough to be worth the start of a run."""

READ_AGAIN = 10
"""Sessions that the schedule looks at: the vendor replaces files in the days after.

The checks of a run read its last so many sessions, and those that it has written: reading one takes a second.
"""


class ArchiveConfig(dg.Config):
    """How a run fetches."""

    full: bool = Field(default=False, description="Write all files again, also those that are up to date.")


class SessionsFailed(VendorError):
    """Some sessions could not be archived. The others are complete."""


def archive_assets(archive: Archive, calendar: Calendar) -> dg.AssetsDefinition:
    """Define the files of an archive: assets such as `us_stocks/archive_1m`."""
    timeframes = {archive_key(archive, timeframe): timeframe for timeframe in archive.timeframes}

    @dg.multi_asset(
        name=f"{archive.name}_{ARCHIVE}",
        specs=[_spec(archive, timeframe) for timeframe in archive.timeframes],
        partitions_def=session_days(archive, calendar),
        backfill_policy=dg.BackfillPolicy.multi_run(CHUNK),
        can_subset=True,
        check_specs=archive_check_specs(archive),
    )
    async def archived(  # type: ignore[no-untyped-def]  # noqa: ANN202  # as for features
        context: dg.AssetExecutionContext, config: ArchiveConfig, clock: Clock, watcher: Watcher, store: MarketStore
    ):
        settings = Settings.read()
        place, now = place_of(settings.archive, settings.data / "archive-parts"), clock.now()
        newest = last_published(calendar, now)
        failure: BackfillError | None = None
        done = list[Settled]()
        if context.has_partition_key or context.has_partition_key_range:
            sessions = [day for key in context.partition_keys if (day := date.fromisoformat(key)) in calendar]
        else:  # the checks run alone
            sessions = [newest] if newest else []
        with interruptible(context):
            if context.selected_asset_keys:
                try:
                    files = _flat_files(settings, watcher)
                    chosen = [timeframes[key] for key in timeframes if key in context.selected_asset_keys]
                    marked = {key: context.instance.get_materialized_partitions(key) for key in timeframes}
                    fetched = fetch_sessions(
                        archive, sessions, chosen, files, place, watcher.file_progress(), full=config.full
                    )
                    async with aclosing(fetched) as settled:
                        async for one in settled:
                            done.append(one)
                            _mark(context, archive, place, one, marked[archive_key(archive, one.timeframe)])
                    failure = _failure(done)
                    missing = [one.session for one in done if one.problem == NOT_LISTED]
                    if missing:
                        context.log.info("No file is published of %s.", ", ".join(map(str, sorted(set(missing)))))
                except (VendorError, SettingMistake) as error:
                    failure = error  # raised after the checks: Dagster shows those without a result as failed
            read = sorted({*(one.session for one in done if one.sha256), *sessions[-READ_AGAIN:]})
            found = await asyncio.to_thread(
                outcomes, archive, calendar, place, read, timeframes, context.selected_asset_check_keys, newest
            )
            with Store(store.url(), connections=1) as table:
                results = report_checks(table, clock, found)
        for result in results:
            yield result
        if failure:
            raise step_failure(failure) from failure

    return archived


def _flat_files(settings: Settings, watcher: Watcher) -> PolygonFiles:
    files = PolygonFiles.of(settings, on_wait=watcher.progress().waiting)
    if files is None:
        raise SettingMistake("POLYGON_FILES_ACCESS_KEY_ID is not set: archives are made of flat files.")
    return files


def _spec(archive: Archive, timeframe: Timeframe) -> dg.AssetSpec:
    return dg.AssetSpec(
        archive_key(archive, timeframe),
        group_name=f"{archive.name}_{ARCHIVE}",
        owners=OWNERS,
        kinds={"polygon", "parquet"},
        tags={"domain": ARCHIVE, "market": archive.name, "timeframe": timeframe.name},
        skippable=True,
        description=f"{timeframe.description} of every ticker of {archive.kind.value}: one Parquet file a session, sorted by "
        "ticker and time, from the vendor's flat files. A run writes the sessions whose file is missing, or was replaced by "
        "the vendor. In a terminal: `backfill archive fetch`.",
    )


def _mark(
    context: dg.AssetExecutionContext, archive: Archive, place: Place, one: Settled, marked: Collection[str]
) -> None:
    """Mark a session as materialized if its file was written, or was not marked yet."""
    key, partition = archive_key(archive, one.timeframe), one.session.isoformat()
    if one.file and (one.sha256 or partition not in marked):
        name = name_of(archive.name, one.timeframe.name, one.session)
        metadata: dict[str, dg.RawMetadataValue] = {
            "tickers": one.file.tickers,
            "rows": one.file.rows,
            "rejected": one.file.rejected,
            "bytes": one.bytes,
            "etag": one.file.etag,
            "file": place.url(name),
        }
        log_materializations(context, [dg.AssetMaterialization(key, partition=partition, metadata=metadata)])


def _failure(done: Iterable[Settled]) -> SessionsFailed | None:
    failed = [one for one in done if one.problem and one.problem != NOT_LISTED]
    if not failed:
        return None
    named = "; ".join(f"{one.session} {one.timeframe}: {one.problem}" for one in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return SessionsFailed(f"{len(failed)} file{'' if len(failed) == 1 else 's'} could not be made: {named}{more}")


def archive_schedule(archive: Archive, calendar: Calendar) -> dg.ScheduleDefinition:
    """Define the schedule of an archive, with its job."""
    job = dg.define_asset_job(
        f"{archive.name}_{ARCHIVE}_job",
        selection=dg.AssetSelection.assets(*(archive_key(archive, t) for t in archive.timeframes)),
        description=f"Write the missing and replaced sessions of the archive {archive.name}.",
    )

    @dg.schedule(
        name=f"{archive.name}_{ARCHIVE}_daily",
        job=job,
        cron_schedule="15 17 * * *",  # 12:15 or 13:15 in New York: flat files are published about 11:00
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Writes the newest session of {archive.name}, and any of the last {READ_AGAIN} whose flat file was "
        "replaced.",
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = (context.scheduled_execution_time or datetime.now(UTC)).astimezone(UTC)
        if Settings.read().files_access_key_id is None:
            return dg.SkipReason("POLYGON_FILES_ACCESS_KEY_ID is not set: flat files are not read.")
        newest = last_published(calendar, now)
        if newest is None:
            return dg.SkipReason(f"No flat file of {archive.name} is published yet.")
        recent = calendar.sessions[: calendar.sessions.index(newest) + 1][-READ_AGAIN:]
        return dg.RunRequest(
            run_key=f"{archive.name} {now:%Y-%m-%d}",
            tags={
                RANGE_START_TAG: recent[0].isoformat(),
                RANGE_END_TAG: recent[-1].isoformat(),
                TRIGGER_TAG: "daily schedule",
            },
        )

    return scheduled
