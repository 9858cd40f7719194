"""Runs as Dagster records them: process, failure, record in `backfill_runs`, and interruption by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from backfill_assets.adapters.processes import find, identity
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.tags import BACKFILL_TAG, HOST_TAG, PROCESS_TAG, TRIGGER_TAG
from backfill_assets.domain.runs import RunKind, RunStart, RunStatus
from backfill_assets.domain.universe import Market

_UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def end_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark failed the runs of this machine's commands whose process is gone; how many there were."""
    mine = dg.RunsFilter(statuses=_UNFINISHED, tags={HOST_TAG: socket.gethostname()})
    dead = [run for run in instance.get_runs(filters=mine) if find(run.tags.get(PROCESS_TAG, "")) is None]
    for run in dead:
        instance.report_run_failed(run, "The process that carried this run out is gone; what it stored stays.")
    return len(dead)


def this_process() -> dict[str, str]:
    """The tags of a run that this process carries out."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: identity(os.getpid())}


@dataclass(frozen=True, slots=True)
class RunFailure:
    """The innermost cause of a run's failure, without its stack.

    kind     the name of the error's type; empty where the run ended without one, as when its process died
    """

    sentence: str
    kind: str = ""


def run_failure(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Why a failed run failed."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    said = ""
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        if event is None:
            continue
        error = getattr(event.event_specific_data, "error", None)  # none where somebody else reported the run failed
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return RunFailure(" ".join(error.message.split(": ", 1)[-1].split()), error.cls_name or "")
        said = event.message or said
    return RunFailure(" ".join(said.split()) or "The run ended without a word; see its log in Dagit.")


_ENDS = {
    dg.DagsterRunStatus.SUCCESS: RunStatus.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: RunStatus.FAILED,
    dg.DagsterRunStatus.CANCELED: RunStatus.CANCELED,
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
        error = run_failure(instance, run_id).sentence if status is RunStatus.FAILED else None
        closed += runs.abandon(run_id, ended_at(record), status, error)
    return closed


def run_start(context: dg.AssetExecutionContext, kind: RunKind, market: Market, at: datetime) -> RunStart:
    """The run of the context, at the instant `at` (UTC)."""
    tags = context.run.tags
    backfill = tags.get(BACKFILL_TAG)
    trigger = tags.get(TRIGGER_TAG) or (f"backfill {backfill}" if backfill else "by hand")
    return RunStart(context.run.run_id, kind, market.name, trigger, at)


@contextmanager
def interruptible(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP cancel the running task, and come out as Dagster's word for an interruption.

    Dagster's own handler raises out of the event loop instead, which leaves tasks and connections behind. Other threads than
    the main one get no signals: there it does nothing.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def stop(name: signal.Signals) -> None:
        if not caught and PROCESS_TAG in context.run.tags:
            # A command's own run: whoever pressed Ctrl-C meant it. A run of the daemon's is said to be canceled by Dagit.
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
