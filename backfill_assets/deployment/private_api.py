"""Every use of Dagster's private API by functions, each with a contract test that fails when an upgrade changes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path

import dagster as dg
import sqlalchemy
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.events import (
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
    StepMaterializationData,
    generate_event_batch_id,
)
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._utils.schedules import get_next_cron_tick, reverse_cron_string_iterator
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from backfill_assets.adapters.postgres import dagster_storage_unavailable

MAX_OVERFLOW = 4
"""Connections that a process opens beside the one that it keeps, while its threads need more at once."""


def log_materializations(context: dg.AssetExecutionContext, events: Iterable[dg.AssetMaterialization]) -> None:
    """Record materializations of single partitions in one batch; `context.log_event` writes each of them separately."""
    pending = list(events)
    step = context.get_step_execution_context().step
    batch = generate_event_batch_id()  # type: ignore[no-untyped-call]  # untyped in Dagster
    for position, event in enumerate(pending, start=1):
        context.instance.report_dagster_event(
            DagsterEvent(
                event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name=context.job_name,
                step_key=step.key,
                step_handle=step.handle,
                node_handle=step.node_handle,
                step_kind_value=step.kind.value,
                event_specific_data=StepMaterializationData(event, []),
                message=f"Materialized {event.asset_key.to_user_string()}, partition {event.partition}.",
            ),
            context.run.run_id,
            batch_metadata=DagsterEventBatchMetadata(batch, position == len(pending)),
        )


def run_in_process(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    workspace: Path,
    *,
    assets: frozenset[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: Mapping[str, object],
) -> dg.DagsterRun:
    """Materialize assets of a job as one run in this process; return the run as it ended.

    The run gets the origin of the workspace's first code location. `JobDefinition.execute_in_process` cannot set one: the
    Dagster UI then cannot re-execute the run and does not list it on the job's page.

    Raises DagsterExecutionInterruptedError.
    """
    location = location_origins_from_yaml_paths([str(workspace)])[0]
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job.name)
    run = instance.create_run_for_job(
        job_def=job.get_subset(asset_selection=set(assets)),
        asset_selection=set(assets),
        tags=tags,
        run_config=run_config,
        remote_job_origin=origin,
    )
    execute_run(InMemoryJob(job), run, instance)
    return instance.get_run_by_id(run.run_id) or run


def hide_retry_warnings() -> None:
    """Keep Dagster's warnings about attempts to reach its database off standard error, for the rest of this process.

    Each has several lines, and the last attempt raises the same error.
    """
    logging.getLogger().addFilter(_is_no_retry_warning)


def _is_no_retry_warning(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Retrying failed database connection")


@dataclass(frozen=True, slots=True)
class UnfinishedBackfill:
    """An asset backfill that has not ended: its tags, and the partition keys that it targets by asset."""

    backfill_id: str
    tags: Mapping[str, str]
    partitions: Mapping[dg.AssetKey, frozenset[str]]


def launch_backfill(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    assets: Sequence[dg.AssetKey],
    ranges: Sequence[tuple[str, str]],
    *,
    title: str,
    tags: Mapping[str, str],
    at: datetime,
    backfill_id: str | None = None,
) -> str:
    """Launch a backfill of ranges of partitions (first and last key, inclusive) of assets, and return its id, new if None.

    The Dagster UI lists it like one that was launched there.
    """
    partitions = PartitionsSelector(ranges=[PartitionRangeSelector(start=first, end=last) for first, last in ranges])
    backfill = PartitionBackfill.from_partitions_by_assets(
        backfill_id=backfill_id or make_new_backfill_id(),
        asset_graph=repository.asset_graph,
        backfill_timestamp=at.timestamp(),
        tags=tags,
        dynamic_partitions_store=instance,
        partitions_by_assets=[PartitionsByAssetSelector(asset_key=key, partitions=partitions) for key in assets],
        title=title,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return str(backfill.backfill_id)


def unfinished_backfills(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> list[UnfinishedBackfill]:
    """Return the asset backfills that have not ended."""
    unfinished = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
    found = []
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=unfinished)):
        if backfill.is_asset_backfill:
            target = backfill.get_asset_backfill_data(repository.asset_graph).target_subset
            keys = {k: frozenset(s.get_partition_keys()) for k, s in target.partitions_subsets_by_asset_key.items()}
            found.append(UnfinishedBackfill(backfill.backfill_id, backfill.tags, keys))
    return found


@dataclass(frozen=True, slots=True)
class BackfillState:
    """The state of an asset backfill; numbers of partitions of all its assets. Instants are UTC."""

    backfill_id: str
    status: str
    tags: Mapping[str, str]
    started: datetime
    ended: datetime | None
    targeted: int
    materialized: int
    failed: int
    newest: str | None = None
    """The newest day among the materialized partitions."""


def backfill_state(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, backfill_id: str
) -> BackfillState | None:
    """Return the state of an asset backfill, None if there is none of this id."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is None or not backfill.is_asset_backfill:
        return None
    data, ended = backfill.get_asset_backfill_data(repository.asset_graph), backfill.backfill_end_timestamp
    done = data.materialized_subset
    keys = (key for subset in done.partitions_subsets_by_asset_key.values() for key in subset.get_partition_keys())
    return BackfillState(
        backfill_id,
        backfill.status.value.lower(),
        backfill.tags,
        datetime.fromtimestamp(backfill.backfill_timestamp, UTC),
        datetime.fromtimestamp(ended, UTC) if ended else None,
        data.target_subset.num_partitions_and_non_partitioned_assets,
        done.num_partitions_and_non_partitioned_assets,
        data.failed_and_downstream_subset.num_partitions_and_non_partitioned_assets,
        max((key.partition("|")[0] for key in keys), default=None),
    )


def cancel_backfill(instance: dg.DagsterInstance, backfill_id: str) -> None:
    """Make the daemon cancel a backfill and its runs, as the Dagster UI does, unless it has ended or is being canceled."""
    backfill = instance.get_backfill(backfill_id)
    if backfill is not None and backfill.status is BulkActionStatus.REQUESTED:
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING))  # type: ignore[no-untyped-call]  # untyped in Dagster


def switch(instance: dg.DagsterInstance, name: str, *, on: bool, at: datetime) -> bool:
    """Switch a sensor or schedule that the daemon has seen on or off, as the Dagster UI does; False if there is none."""
    state = next((s for s in instance.all_instigator_state() if s.instigator_name == name), None)
    if state is None:
        return False
    data = state.instigator_data
    if on and isinstance(data, ScheduleInstigatorData):  # ticks before it was switched on are not made up for
        data = ScheduleInstigatorData(data.cron_schedule, at.timestamp())
    elif on and isinstance(data, SensorInstigatorData):
        data = data.with_sensor_start_timestamp(at.timestamp())
    status = InstigatorStatus.RUNNING if on else InstigatorStatus.STOPPED
    changed = state.with_status(status)
    instance.update_instigator_state(changed.with_data(data) if data is not None else changed)
    return True


@dataclass(frozen=True, slots=True)
class Ticking:
    """The state of a sensor or schedule. Instants are UTC.

    started     when it was switched on, or first seen by the daemon
    last_good   start of the last tick that succeeded or was skipped; None if there is none
    last_error  the error of the last tick; empty if it did not fail
    crons       of a schedule
    """

    switched_off: bool
    started: datetime
    last_good: datetime | None
    last_error: str
    crons: tuple[str, ...] = ()


def ticking(instance: dg.DagsterInstance) -> dict[str, Ticking]:
    """Return every sensor and schedule that the daemon has seen, by name."""
    if instance.schedule_storage is None:
        return {}
    known = instance.all_instigator_state()
    kinds = (InstigatorType.SENSOR, InstigatorType.SCHEDULE)
    return {state.instigator_name: _ticking(instance, state) for state in known if state.instigator_type in kinds}


def _ticking(instance: dg.DagsterInstance, state: InstigatorState) -> Ticking:
    origin, selector = state.instigator_origin_id, state.selector_id
    good_statuses = [TickStatus.SUCCESS, TickStatus.SKIPPED]
    good = instance.get_tick_summaries(origin, selector, limit=1, statuses=good_statuses)
    ended = instance.get_tick_summaries(origin, selector, limit=1, statuses=[*good_statuses, TickStatus.FAILURE])
    error = ""
    if ended and ended[0].status is TickStatus.FAILURE:
        tick = instance.get_ticks(origin, selector, limit=1, statuses=[TickStatus.FAILURE])[0]
        cause = tick.error
        while cause is not None and cause.cause is not None:
            cause = cause.cause
        error = " ".join(cause.message.split(": ", 1)[-1].split()) if cause else ""
    data, started, crons = state.instigator_data, None, tuple[str, ...]()
    if isinstance(data, SensorInstigatorData):
        started = data.last_sensor_start_timestamp
    elif isinstance(data, ScheduleInstigatorData):
        started = data.start_timestamp
        crons = (data.cron_schedule,) if isinstance(data.cron_schedule, str) else tuple(data.cron_schedule)
    return Ticking(
        state.status is InstigatorStatus.STOPPED,
        datetime.fromtimestamp(started or 0, UTC),
        datetime.fromtimestamp(good[0].timestamp, UTC) if good else None,
        error,
        crons,
    )


def next_due(ticks: Ticking, after: datetime) -> datetime | None:
    """Return when a schedule whose cron strings are in UTC is due next; None for a sensor, and if it is switched off."""
    if ticks.switched_off:
        return None
    return min((get_next_cron_tick(cron, after, "UTC") for cron in ticks.crons), default=None)


def last_due(schedule: dg.ScheduleDefinition, before: datetime) -> datetime:
    """Return when a schedule was last due, at or before `before`."""
    crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else schedule.cron_schedule
    zone = schedule.execution_timezone or "UTC"
    return max(next(reverse_cron_string_iterator(before.timestamp(), cron, zone)) for cron in crons)


def daemon_seen(instance: dg.DagsterInstance) -> datetime | None:
    """Return the last heartbeat of the daemon (UTC), or None: the older one of its sensor and scheduler threads.

    Each sends one about every half minute.
    """
    heartbeats = instance.get_daemon_heartbeats()
    threads = ("SENSOR", "SCHEDULER")
    if any(thread not in heartbeats for thread in threads):
        return None
    return datetime.fromtimestamp(min(heartbeats[thread].timestamp for thread in threads), UTC)


@lru_cache(maxsize=1)
def _engine(url: str, statement_timeout: int, pool_recycle: int, max_overflow: int) -> sqlalchemy.Engine:
    """Return the pool of this process: instances are opened often, one for each tick of a sensor."""
    options = str(sqlalchemy.make_url(url).query.get("options", ""))
    if statement_timeout:
        options += f" -cstatement_timeout={statement_timeout}"
    return sqlalchemy.create_engine(
        url,
        connect_args={"options": options},
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=max_overflow,
        pool_pre_ping=True,
        pool_recycle=pool_recycle,
        hide_parameters=True,
    )


def pool_connections(
    storage: DagsterPostgresStorage,
    statement_timeout: int = 0,
    pool_recycle: int = 3600,
    max_overflow: int = MAX_OVERFLOW,
) -> None:
    """Keep one connection of this process open for all storages and instances, instead of opening one for every query.

    Opening takes 4.7 ms with default settings, about half of a short run's time. Connections are tested before use, so a
    restart of the server has no effect.

    statement_timeout  in milliseconds; 0 leaves the server's
    pool_recycle       in seconds
    """
    engine = _engine(storage.postgres_url, statement_timeout, pool_recycle, max_overflow)
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        if part._engine is not engine:  # type: ignore[union-attr]  # noqa: SLF001  # there is no public way
            part._engine.dispose()  # type: ignore[union-attr]  # noqa: SLF001
            part._engine = engine  # type: ignore[union-attr]  # noqa: SLF001
        # Dagster's would open a pool for each of the storages.
        part.optimize_for_webserver = partial(pool_connections, storage)  # type: ignore[method-assign]


def close_idle_connections(instance: dg.DagsterInstance) -> None:
    """Close the connections that this process keeps open to Dagster's records."""
    instance.event_log_storage._engine.dispose()  # type: ignore[attr-defined]  # noqa: SLF001  # there is no public way


@contextmanager
def records_needed() -> Iterator[None]:
    """Raise DatabaseUnavailable if Dagster's storage cannot be reached, around a command or as a sensor's decorator.

    The next tick connects again: nothing has to be restarted once the database is back.
    """
    try:
        yield
    except (DagsterPostgresException, DBAPIError) as error:
        raise dagster_storage_unavailable(error) from None
