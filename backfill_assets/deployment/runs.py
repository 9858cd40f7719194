"""Runs: their tags, processes, failures and records in `backfill_runs`, and interruption by signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from backfill_assets.adapters.processes import find, identity, machine
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.errors import BackfillError, KeyRefused
from backfill_assets.domain.runs import RunKind, RunStart, RunStatus
from backfill_assets.domain.universe import Market

TRIGGER_TAG = "backfill/trigger"
"""What started the run."""

# The Dagster UI hides tags that begin with a dot.
HOST_TAG = ".dagster/backfill_host"
PROCESS_TAG = ".dagster/backfill_process"
"""The process that executes the run, if it is a command's own."""

WORKER_TAG = ".dagster/backfill_worker"
"""The process that executes the run, launched by the daemon."""

SILENT_AFTER = timedelta(minutes=3)
"""A run whose process cannot be looked up from here is dead if it was not seen alive for this long: nine heartbeats."""

REPAIR_TAG = "backfill/repair"
"""The market, on backfills that repair gaps."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Dagster's own: two corners of the rectangle of partitions of a run."""

PARTITION_TAG = "dagster/partition"
"""Dagster's own: the partition of a run that has only one."""

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

WILL_RETRY_TAG = "dagster/will_retry"
"""Dagster's own, on failed runs: whether the daemon retries it, `true` or `false`."""

PROCESS_DIED = "The process of this run died; what it stored is kept."

_UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def end_dead_runs(instance: dg.DagsterInstance, runs: RunStore) -> int:
    """Mark as failed the runs of commands whose process has died, and return their number."""
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))
    dead = [run for run in unfinished if PROCESS_TAG in run.tags and has_died(run, run.tags[PROCESS_TAG], runs.silence)]
    for run in dead:
        instance.report_run_failed(run, PROCESS_DIED)
    return len(dead)


def has_died(run: dg.DagsterRun, process: str, silence_of: Callable[[str], timedelta | None]) -> bool:
    """Whether the process of a run has died: it is gone or, where it cannot be looked up, it was silent for SILENT_AFTER.

    `silence_of` is called only in the second case, with the run's id; see `RunStore.silence`.
    """
    if run.tags.get(HOST_TAG) == machine():
        return find(process) is None
    silence = silence_of(run.run_id)
    return silence is not None and silence > SILENT_AFTER


def this_process() -> dict[str, str]:
    """Return the tags of a run that this process executes."""
    return {HOST_TAG: machine(), PROCESS_TAG: identity(os.getpid())}


@dataclass(frozen=True, slots=True)
class RunFailure:
    """The root cause of a run's failure, without the stack.

    kind     the name of the error's type; empty if the run ended without an error, as when its process died
    """

    sentence: str
    kind: str = ""


def step_failure(error: BackfillError) -> dg.Failure:
    """Return what a step raises from an error, so that the run's page in the Dagster UI begins with its sentence."""
    return dg.Failure(f"{str(error).rstrip('.')}.")


def run_failure(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Return why a run failed."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    message = ""
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        if event is None:
            continue
        error = getattr(event.event_specific_data, "error", None)  # missing if another process reported the failure
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return RunFailure(" ".join(error.message.split(": ", 1)[-1].split()), error.cls_name or "")
        message = event.message or message
    return RunFailure(" ".join(message.split()) or "The run ended without an error; see its log in the Dagster UI.")


@dataclass(frozen=True, slots=True)
class KeyRefusal:
    """The newest run that sent requests failed because the vendor refused the key; it ended at `at` (UTC)."""

    run_id: str
    sentence: str
    at: datetime


def key_refusal(instance: dg.DagsterInstance, runs: RunStore) -> KeyRefusal | None:
    """Return how the vendor refused the key, until a run has succeeded or failed otherwise."""
    for run_id, status, at in runs.newest_requests():
        if status is RunStatus.SUCCEEDED:
            return None
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:  # an error is logged when the checks of its run have been evaluated
            failure = run_failure(instance, run_id)
            return KeyRefusal(run_id, failure.sentence, at) if failure.kind == KeyRefused.__name__ else None
    return None


_ENDS = {
    dg.DagsterRunStatus.SUCCESS: RunStatus.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: RunStatus.FAILED,
    dg.DagsterRunStatus.CANCELED: RunStatus.CANCELED,
}


def ended_at(record: dg.RunRecord) -> datetime:
    """Return when an ended run ended (UTC)."""
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp.astimezone(UTC)


def close_records(instance: dg.DagsterInstance, runs: RunStore) -> int:
    """Close the records of runs that have ended without doing so, and return their number.

    What such a run stored is not in its record. A run that is retried starts a new record.
    """
    closed = 0
    for run_id in runs.unfinished():
        record = instance.get_run_record_by_id(run_id)
        if record is None or record.dagster_run.status not in _ENDS:
            continue
        status = _ENDS[record.dagster_run.status]
        error = run_failure(instance, run_id).sentence if status is RunStatus.FAILED else None
        closed += runs.abandon(run_id, ended_at(record), status, error)
    return closed


def run_start(context: dg.AssetExecutionContext, kind: RunKind, market: Market, at: datetime) -> RunStart:
    """Describe the run of the context, started at `at` (UTC)."""
    tags = context.run.tags
    if PROCESS_TAG not in tags:
        context.instance.add_run_tags(context.run.run_id, {HOST_TAG: machine(), WORKER_TAG: identity(os.getpid())})
    backfill = tags.get(BACKFILL_TAG)
    trigger = tags.get(TRIGGER_TAG) or (f"backfill {backfill}" if backfill else "by hand")
    return RunStart(context.run.run_id, kind, market.name, trigger, at)


@contextmanager
def interruptible(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Cancel the running task on SIGINT, SIGTERM and SIGHUP, and raise Dagster's interruption error.

    Dagster's own handler raises from within the event loop, which leaves tasks and connections open. Only the main thread
    gets signals: in others this does nothing.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def stop(name: signal.Signals) -> None:
        if not caught and PROCESS_TAG in context.run.tags:
            # A command's own run. Runs of the daemon are marked as canceling by the UI.
            context.instance.report_run_canceling(context.run)
        caught.append(name)
        task.cancel()

    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for name in before:
        loop.add_signal_handler(name, stop, name)
    try:
        yield
    except asyncio.CancelledError:
        if not caught:
            raise
        task.uncancel()
        raise dg.DagsterExecutionInterruptedError(caught[0].name) from None
    finally:
        for name, handler in before.items():
            loop.remove_signal_handler(name)
            signal.signal(name, handler)
