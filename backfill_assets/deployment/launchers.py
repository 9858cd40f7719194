"""The run launcher that dagster.yaml names: runs in processes of this machine."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

from backfill_assets.adapters import database
from backfill_assets.adapters.processes import machine
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.runs import HOST_TAG, PROCESS_DIED, WORKER_TAG, has_died


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher on one machine, which also detects that a run's process died.

    Dagster's own launcher asks the code server that started the process. If that has died too, for instance because the
    machine was restarted, a run would stay *started* forever and count against the limit of concurrent runs.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run and tag it with this machine, where the id that its process reports can be looked up."""
        self._instance.add_run_tags(context.dagster_run.run_id, {HOST_TAG: machine()})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True: `run_monitoring` checks the health of runs."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the process of a started run is alive."""
        if self._has_died(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, PROCESS_DIED)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _has_died(self, run: dg.DagsterRun) -> bool:
        process = run.tags.get(WORKER_TAG)
        if process is not None:
            return has_died(run, process, _silence)
        # It has not reported its identity yet: all that is known is its number.
        number = self._reported(run.run_id)
        return number is not None and run.tags.get(HOST_TAG) == machine() and not psutil.pid_exists(number)

    def _reported(self, run_id: str) -> int | None:
        """Return the id that the run's process reported when it started."""
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            number = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if number is not None:
                return int(str(number.value))
        return None


def _silence(run_id: str) -> timedelta | None:
    with RunStore(database.locate(Settings.read()), connections=1) as runs:
        return runs.silence(run_id)
