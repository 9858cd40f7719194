"""The records of runs that could not write how they ended: their process was killed, or the database away.

What lives here: telling it from Dagster's own records. What does not: those, and how a run writes its record itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.run_record import Status
from backfill_assets.run_failures import failure_of

_ENDS = {
    dg.DagsterRunStatus.SUCCESS: Status.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: Status.FAILED,
    dg.DagsterRunStatus.CANCELED: Status.CANCELED,
}


def ended_at(record: dg.RunRecord) -> datetime:
    """When a run ended that Dagster knows to have ended (UTC)."""
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp.astimezone(UTC)


def close_records(instance: dg.DagsterInstance, runs: RunStore) -> int:
    """Note of runs that stand as going on, and that Dagster knows to have ended, when and how; how many there were.

    What they stored is in their series' tables and not in the record. A run that is carried out again begins its record anew.
    """
    closed = 0
    for run_id in runs.unfinished():
        record = instance.get_run_record_by_id(run_id)
        if record is None or record.dagster_run.status not in _ENDS:
            continue
        status = _ENDS[record.dagster_run.status]
        error = failure_of(instance, run_id).sentence if status is Status.FAILED else None
        closed += runs.abandon(run_id, ended_at(record), status, error)
    return closed
