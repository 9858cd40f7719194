"""Every use of Dagster that its public interface does not promise.

What lives here: those calls, each behind a function with a public meaning, each with a contract test that fails when an
upgrade changes it. What does not: anything that public API can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
import sqlalchemy
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import (
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
    StepMaterializationData,
    generate_event_batch_id,
)
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_postgres import DagsterPostgresStorage


def log_materializations(context: dg.AssetExecutionContext, events: Iterable[dg.AssetMaterialization]) -> None:
    """Record materializations of single partitions as one batch of writes; `context.log_event` makes a write of each."""
    pending = list(events)
    step = context.get_step_execution_context().step
    batch = generate_event_batch_id()  # type: ignore[no-untyped-call]  # Dagster's own gap
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


def create_local_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    workspace: Path,
    *,
    assets: frozenset[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: Mapping[str, object],
) -> DagsterRun:
    """A run that this process will carry out, known to the instance as if the workspace's code location had it.

    So Dagit shows it with its job and assets, and the daemon can retry it where this process dies.
    """
    location = next(iter(location_origins_from_yaml_paths([str(workspace)])))
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job.name)
    return instance.create_run_for_job(
        job_def=job.get_subset(asset_selection=set(assets)),
        asset_selection=set(assets),
        tags=tags,
        run_config=run_config,
        remote_job_origin=origin,
    )


def execute_local_run(instance: dg.DagsterInstance, job: dg.JobDefinition, run: DagsterRun) -> bool:
    """Carry a run out in this process; whether it succeeded. Events go to the instance as from any other run."""
    return execute_run(InMemoryJob(job), run, instance).success


def pool_connections(storage: DagsterPostgresStorage) -> None:
    """Let each of the three storages keep one connection open instead of opening one a query.

    Opening takes 4.7 ms with default settings, about half of a short run's time. A connection is tested before it is used, so
    that a restarted server goes unnoticed.
    """
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part._engine = sqlalchemy.create_engine(  # type: ignore[union-attr]  # noqa: SLF001  # no public door
            storage.postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            max_overflow=20,
            pool_pre_ping=True,
            pool_recycle=3600,
        )
