"""The run launchers: the instances in deploy/ are valid, and the launcher of dagster.yaml detects dead processes.

`system/test_daemon.py` kills the real daemon with its runs.
"""

import importlib
import socket
import subprocess
import sys

import psutil
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.events import EngineEventData
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test

from backfill_assets.adapters.processes import identity, machine
from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.launchers import WatchedRunLauncher
from backfill_assets.deployment.runs import HOST_TAG, WORKER_TAG
from backfill_assets_tests.integration.deployment.test_private_api import home, instance
from backfill_assets_tests.support import PROJECT

__all__ = ["home", "instance"]

DEPLOY = PROJECT / "deploy"


@pytest.mark.parametrize("name", ["celery", "docker", "kubernetes"])
def test_dagster_accepts_the_instance_and_its_launcher(name, monkeypatch):
    for variable in ("CELERY_BROKER_URL", "BACKFILL_IMAGE", "BACKFILL_NAMESPACE"):
        monkeypatch.setenv(variable, "something")
    instance = yaml.safe_load((DEPLOY / name / "dagster.yaml").read_text(encoding="utf-8"))
    checked = process_config(dagster_instance_config_schema(), instance)
    assert checked.success, checked.errors

    launcher = instance["run_launcher"]
    pytest.importorskip(launcher["module"].partition(".")[0], reason="the extra `celery` is not installed")
    schema = getattr(importlib.import_module(launcher["module"]), launcher["class"]).config_type()
    checked = process_config(resolve_to_config_type(schema), launcher["config"])
    assert checked.success, checked.errors


IN_THE_IMAGE = {"DAGSTER_HOME", "BACKFILL_DATA_DIR"}
OF_THE_DAEMON = {"ALERT_URLS", "ALERT_REPEAT_HOURS", "DAGSTER_UI_URL", "BACKFILL_STATUS_URL", "BACKFILL_API_TOKENS"}
"""Settings that no run reads."""


def test_the_containers_get_every_setting():
    aliases = [field.validation_alias for field in Settings.model_fields.values()]
    names = {getattr(alias, "choices", [alias])[0] for alias in aliases}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    given = compose["services"]["daemon"]["environment"]
    assert names - given.keys() == IN_THE_IMAGE
    environment = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").rpartition("ENV ")[2]
    assert {pair.partition("=")[0] for pair in environment.split()} == IN_THE_IMAGE
    # Of a setting that is not in the file .env, the program has its own default.
    required = {"POLYGON_API_KEY", "DATABASE_URL", "BACKFILL_UNIVERSE", "DAGSTER_UI_URL", "BACKFILL_STATUS_URL"}
    assert [name for name in names - IN_THE_IMAGE - required if given[name] != f"${{{name}:-}}"] == []
    docker = yaml.safe_load((DEPLOY / "docker" / "dagster.yaml").read_text(encoding="utf-8"))
    passed_on = set(docker["run_launcher"]["config"]["env_vars"])
    assert passed_on == given.keys() - OF_THE_DAEMON, "a container of a run has what its daemon has"


def test_a_worker_takes_its_settings_from_its_file(monkeypatch):
    cli = pytest.importorskip("dagster_celery.cli", reason="the extra `celery` is not installed")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
    settings = cli.get_validated_config(str(DEPLOY / "celery" / "celery.yaml"))
    assert settings["broker"] == settings["backend"] == "redis://127.0.0.1:6379/0"
    assert settings["config_source"]["task_acks_late"]


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def launched(instance, process=None, *, on=None, worker=None):
    """Return a run launched on a machine, this one by default, with what is known of its process."""
    run = create_run_for_test(instance)
    instance.add_run_tags(run.run_id, {HOST_TAG: on or machine()} | ({WORKER_TAG: worker} if worker else {}))
    if process:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(process.pid))
    return instance.get_run_by_id(run.run_id)


def restarted(instance):
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    return launcher


def health(launcher, run):
    return launcher.check_run_worker_health(run).status


def test_the_projects_instance_uses_the_launcher_and_monitors_runs(instance):
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_monitoring_enabled


@pytest.mark.parametrize("reported", [False, True])
def test_a_run_is_healthy_as_long_as_its_process_is_alive(instance, process, reported, monkeypatch):
    run = launched(instance, process, worker=identity(process.pid) if reported else None)
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")  # the market tables are not needed
    assert health(instance.run_launcher, run) is WorkerStatus.RUNNING
    process.kill()
    process.wait()
    for launcher in (instance.run_launcher, restarted(instance)):
        found = launcher.check_run_worker_health(run)
        assert found.status is WorkerStatus.FAILED
        assert found.msg == "The process of this run died; what it stored is kept."


def test_a_later_process_with_the_same_id_is_not_taken_for_the_runs(instance, process):
    run = launched(instance, process, worker=identity(process.pid) + "1")
    assert health(instance.run_launcher, run) is WorkerStatus.FAILED


def test_a_step_of_the_clock_ends_no_run(instance, process, monkeypatch):
    runs = [launched(instance, process, worker=worker) for worker in (identity(process.pid), None)]
    first_boot = psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: first_boot + 1_000_000)
    assert [health(instance.run_launcher, run) for run in runs] == [WorkerStatus.RUNNING] * 2


def test_runs_of_other_machines_or_without_a_known_process_count_as_running(instance, process):
    process.kill()
    process.wait()
    elsewhere = f"{socket.gethostname()} boot pid:[1]"
    assert health(instance.run_launcher, launched(instance, process, on=elsewhere)) is WorkerStatus.RUNNING
    gone = launched(instance, process, on=elsewhere, worker="1@gone")
    assert health(instance.run_launcher, gone) is WorkerStatus.RUNNING
    assert health(instance.run_launcher, create_run_for_test(instance)) is WorkerStatus.RUNNING
    assert health(instance.run_launcher, launched(instance)) is WorkerStatus.RUNNING
