"""Whether a run's process still runs: what the launcher of the project's dagster.yaml tells `run_monitoring`.

The real daemon, killed with its runs, is tried in `system/test_daemon.py`.
"""

import os
import socket
import subprocess
import sys

import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test

from backfill_assets.deployment.launchers import WatchedRunLauncher
from backfill_assets.deployment.tags import LAUNCHED_ON_TAG
from backfill_assets_tests.integration.deployment.test_private_api import home, instance

__all__ = ["home", "instance"]


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def launched(instance, *pids, on=None):
    """A run that was launched on a machine, this one by default, and told of processes as Dagster's own runs do."""
    run = create_run_for_test(instance)
    instance.add_run_tags(run.run_id, {LAUNCHED_ON_TAG: on or socket.gethostname()})
    for pid in pids:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return instance.get_run_by_id(run.run_id)


def restarted(instance):
    """The launcher of a daemon that has not seen any run."""
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    return launcher


def health(launcher, run):
    return launcher.check_run_worker_health(run).status


def test_the_project_names_it_and_dagster_asks_it(instance):
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_monitoring_enabled


def test_a_run_goes_on_as_long_as_its_process(instance, process):
    run = launched(instance, process.pid, os.getpid())  # the first one is the run's, later ones may be of its steps
    assert health(instance.run_launcher, run) is WorkerStatus.RUNNING
    assert health(instance.run_launcher, run) is WorkerStatus.RUNNING
    process.kill()
    process.wait()
    for launcher in (instance.run_launcher, instance.run_launcher, restarted(instance)):
        found = launcher.check_run_worker_health(run)
        assert found.status is WorkerStatus.FAILED
        assert found.msg == "The process of this run is gone; what it stored is kept."


def test_a_later_process_of_the_same_number_is_not_the_runs(instance, process, monkeypatch):
    run = launched(instance, process.pid)
    launcher = restarted(instance)
    monkeypatch.setattr(launcher, "_reported", lambda _: (process.pid, 1_000_000_000.0))
    assert health(launcher, run) is WorkerStatus.FAILED


def test_a_process_is_looked_for_on_its_own_machine_only(instance, process):
    process.kill()
    process.wait()
    assert health(instance.run_launcher, launched(instance, process.pid, on="elsewhere")) is WorkerStatus.RUNNING
    assert health(instance.run_launcher, create_run_for_test(instance)) is WorkerStatus.RUNNING
    assert health(instance.run_launcher, launched(instance)) is WorkerStatus.RUNNING
