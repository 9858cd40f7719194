"""The run launcher that dagster.yaml names: runs in processes of this machine."""

from __future__ import annotations

import socket

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData

from backfill_assets.adapters.processes import find, identity
from backfill_assets.deployment.runs import LAUNCHED_ON_TAG, PROCESS_DIED


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher on one machine, which also detects that a run's process died.

    Dagster's own launcher asks the code server that started the process. If that has died too, for instance because the
    machine was restarted, a run would stay *started* forever and count against the limit of concurrent runs.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._seen: dict[str, str] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True: `run_monitoring` checks the health of runs."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run and tag it with this machine: only here can its process be looked up."""
        self._instance.add_run_tags(context.dagster_run.run_id, {LAUNCHED_ON_TAG: socket.gethostname()})
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the process of a started run is alive. Runs launched on other machines count as running."""
        if run.tags.get(LAUNCHED_ON_TAG) == socket.gethostname() and not self._is_alive(run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, PROCESS_DIED)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _is_alive(self, run_id: str) -> bool:
        if run_id not in self._seen:
            reported = self._reported(run_id)
            if reported is None:
                return True
            number, at = reported
            try:
                # Another process may have the same id by now.
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
        """Return the id that the run's process reported when it started, and when that was."""
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            number = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if number is not None:
                return int(str(number.value)), entry.timestamp
        return None
