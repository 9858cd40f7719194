"""Runs in processes of this machine: what dagster.yaml names."""

from __future__ import annotations

import socket

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData

from backfill_assets.adapters.processes import find, identity
from backfill_assets.deployment.tags import LAUNCHED_ON_TAG


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher on one machine, which notices that a run's process died.

    Dagster's own learns it from the code server that started the process. Where that died too, as when the machine went
    down, the run stayed *started* for ever, and kept its place among those that may run at a time.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._seen: dict[str, str] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Dagster's question: whether `run_monitoring` may ask."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch it, and note where: a process can be looked for on its own machine only."""
        self._instance.add_run_tags(context.dagster_run.run_id, {LAUNCHED_ON_TAG: socket.gethostname()})
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run still runs. A run that was not launched here counts as going on."""
        if run.tags.get(LAUNCHED_ON_TAG) == socket.gethostname() and not self._goes_on(run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process of this run is gone; what it stored is kept.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _goes_on(self, run_id: str) -> bool:
        if run_id not in self._seen:
            reported = self._reported(run_id)
            if reported is None:
                return True
            number, at = reported
            try:
                # A later process may have the number by now.
                if psutil.Process(number).create_time() > at:
                    return False
                self._seen[run_id] = identity(number)
            except psutil.NoSuchProcess:
                return False
        if find(self._seen[run_id]) is not None:
            return True
        del self._seen[run_id]
        return False

    def _reported(self, run_id: str) -> tuple[int, float] | None:
        """The number of the run's process as it told itself at its start, and when."""
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            number = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if number is not None:
                return int(str(number.value)), entry.timestamp
        return None
