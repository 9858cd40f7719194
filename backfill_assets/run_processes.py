"""Which process carries a run out, where that is a command's own, and what happens to the run when it is gone.

What lives here: the tags that say so, and ending such runs. What does not: starting them (`launch`).
"""

from __future__ import annotations

import os
import socket

import dagster as dg

from backfill_assets.adapters.processes import find, identity
from backfill_assets.run_tags import HOST_TAG, PROCESS_TAG

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
