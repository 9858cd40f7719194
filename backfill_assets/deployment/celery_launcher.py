"""Runs on the Celery workers of several machines: what deploy/celery/dagster.yaml names."""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

_PINGS = 3
_PING_SECONDS = 2.0
"""A worker answers within milliseconds, whatever its children do; three times two seconds bridge a busy machine."""


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Dagster's Celery launcher, which notices that a worker died.

    Celery keeps a task *started* for ever when its machine is gone, and Dagster believes it. Here the worker is asked.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the worker of a started run still answers. Raises the broker's error where Redis is away."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:  # a command's own run, which that command's machine watches
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        # The state and the worker's name in one read: a task that ends in between would have neither.
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
        """Have the run's process ended; the run is canceling from now on, as Dagster expects of a launcher."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def _answers(self, worker: str) -> bool:
        ping = self.celery.control.ping
        return any(ping(destination=[worker], timeout=_PING_SECONDS) for _ in range(_PINGS))
