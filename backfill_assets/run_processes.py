"""Which process carries a run out, where that is a command's own, and what happens to the run when it is gone.

What lives here: the tags that say so, and ending such runs. What does not: starting them (`launch`).
"""

from __future__ import annotations

import socket

import dagster as dg
import psutil

from backfill_assets.run_tags import HOST_TAG, PROCESS_TAG

_UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
# A process's start time as the kernel tells it, to tell it from a later one with the same id.
_SAME_START_SECONDS = 1.0


def end_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark failed the runs of this machine's commands whose process is gone; how many there were."""
    mine = dg.RunsFilter(statuses=_UNFINISHED, tags={HOST_TAG: socket.gethostname()})
    dead = [run for run in instance.get_runs(filters=mine) if not _alive(run.tags.get(PROCESS_TAG, ""))]
    for run in dead:
        instance.report_run_failed(run, "The process that carried this run out is gone; what it stored stays.")
    return len(dead)


def this_process() -> dict[str, str]:
    """The tags of a run that this process carries out."""
    me = psutil.Process()
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: f"{me.pid}@{me.create_time():.2f}"}


def _alive(process: str) -> bool:
    pid, _, started = process.partition("@")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < _SAME_START_SECONDS
    except (psutil.Error, ValueError):
        return False
