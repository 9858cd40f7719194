"""The run launcher that deploy/celery/dagster.yaml names: runs on the Celery workers of several machines."""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

_PINGS = 3
_PING_SECONDS = 2.0
"""A worker answers within milliseconds, whatever its children do; three pings of two seconds allow for a busy machine."""


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Dagster's Celery launcher, which also detects that a worker died.

    When a worker's machine is lost, Celery keeps its task *started* forever. This launcher pings the worker.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the worker of a started run answers. Raises the broker's error if Redis is unavailable."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:  # the run of a command, which executes it itself
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        # One read for the state and the worker's name: the task may end between two.
        task = self.celery.backend.get_task_meta(task_id)
        if task["status"] == "STARTED":
            worker = task["result"]["hostname"]
            if self._answers(worker):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The worker {worker} does not answer.")
        current = self._instance.get_run_by_id(run.run_id)
        if current is None or current.is_finished:
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The Celery task is {task['status']}, and the run is not done."
        )

    def terminate(self, run_id: str) -> bool:
        """Mark the run as canceling, and end its process."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def _answers(self, worker: str) -> bool:
        ping = self.celery.control.ping
        return any(ping(destination=[worker], timeout=_PING_SECONDS) for _ in range(_PINGS))
