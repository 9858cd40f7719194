"""The environment variables that Dagster and numba need, in each of the processes that write events or compute features."""

import os
import subprocess
import sys

import dagster as dg
import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.environment import BATCH_SIZE, NUMBA_CACHE, set_defaults
from backfill_assets.deployment.storage import PLANNED_SUBSETS
from backfill_assets.orchestration.launch import open_instance
from backfill_assets_tests.postgres import unset_variables
from backfill_assets_tests.support import PROJECT

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
RANGE = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-01-31"}


@dg.asset(partitions_def=DAYS)
def daily(context: dg.AssetExecutionContext) -> None: ...


JOB = dg.Definitions(assets=[daily], jobs=[dg.define_asset_job("j", [daily])]).resolve_job_def("j")


@pytest.fixture
def nothing_set(monkeypatch, tmp_path):
    unset_variables(monkeypatch, BATCH_SIZE, NUMBA_CACHE, PLANNED_SUBSETS)
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def database(nothing_set, dagster_database_url, monkeypatch):
    assert nothing_set
    monkeypatch.setenv("DATABASE_URL", dagster_database_url)


@pytest.mark.usefixtures("database")
def test_a_command_sets_the_variables(nothing_set):
    with open_instance(Settings.read()):
        assert (os.environ[BATCH_SIZE], os.environ[NUMBA_CACHE]) == ("1000", str(nothing_set / "numba"))
    assert (nothing_set / "numba").is_dir()


def test_a_process_that_loads_the_definitions_sets_the_variables(nothing_set):
    """A code server, and the workers of runs in processes, containers and Celery."""
    code = f"import os, backfill_assets.definitions; print(os.environ['{BATCH_SIZE}'], os.environ['{NUMBA_CACHE}'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.split() == ["1000", str(nothing_set / "numba")]


def planned_events():
    """Create a run as webserver and daemon do, which load nothing but dagster.yaml, and count its planned events."""
    with dg.DagsterInstance.from_config(str(PROJECT)) as instance:
        run = instance.create_run_for_job(JOB, tags=RANGE, asset_selection={daily.key})
        return len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED))


@pytest.mark.usefixtures("database")
def test_webserver_and_daemon_plan_one_event_for_each_asset_unless_the_variable_is_set(monkeypatch):
    assert planned_events() == 1
    assert BATCH_SIZE not in os.environ
    monkeypatch.setenv(PLANNED_SUBSETS, "false")
    assert planned_events() == 31


def test_values_set_by_the_user_are_kept(nothing_set, monkeypatch):
    monkeypatch.setenv(BATCH_SIZE, "7")
    monkeypatch.setenv(NUMBA_CACHE, "/elsewhere")
    set_defaults()
    assert (os.environ[BATCH_SIZE], os.environ[NUMBA_CACHE]) == ("7", "/elsewhere")
    assert not nothing_set.exists()


def test_numba_gets_no_folder_that_cannot_be_written_to(nothing_set):
    nothing_set.mkdir()
    (nothing_set / "numba").write_text("a file with that name")
    set_defaults()
    assert NUMBA_CACHE not in os.environ
