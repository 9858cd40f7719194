"""The nightly purge of Dagster's event log.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from backfill_assets.deployment.retention import KEPT_DAYS, purge_events
from backfill_assets.deployment.runs import TRIGGER_TAG
from backfill_assets.orchestration.resources import Clock, MarketStore


class PurgeConfig(dg.Config):
    """What is deleted."""

    older_than_days: int = Field(default=KEPT_DAYS, ge=1, le=3650, description="Newer entries are kept.")


@dg.op
def purge_event_log(context: dg.OpExecutionContext, config: PurgeConfig, clock: Clock, store: MarketStore) -> None:
    """Delete old entries of Dagster's event log that the Dagster UI does not show, like `backfill db purge`."""
    gone = purge_events(store.url(), clock.now() - timedelta(days=config.older_than_days))
    context.log.info(
        "Deleted %d log entries, %d materializations and %d check results.",
        gone.events,
        gone.materializations,
        gone.checks,
    )


@dg.job(description="Delete old entries of Dagster's event log that newer ones replace.")
def purge_job() -> None:
    """Define the job."""
    purge_event_log()


def purge_schedule() -> dg.ScheduleDefinition:
    """Define the schedule of the purge. It is on by default."""
    return dg.ScheduleDefinition(
        name="purge_nightly",
        job=purge_job,
        cron_schedule="0 6 * * *",  # after the market's schedules
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={TRIGGER_TAG: "nightly schedule"},
        description=f"Deletes what is older than {KEPT_DAYS} days in Dagster's event log and not shown in the Dagster UI.",
    )
