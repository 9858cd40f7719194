"""Contracts with Dagster that `deployment/` relies on, on a real instance of the project's dagster.yaml.

An upgrade of Dagster that changes one of these makes a test here fail.
"""

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from sqlalchemy.exc import OperationalError

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.environment import BATCH_SIZE
from backfill_assets.deployment.private_api import (
    UnfinishedBackfill,
    close_idle_connections,
    launch_backfill,
    log_materializations,
    records_needed,
    run_in_process,
    unfinished_backfills,
)
from backfill_assets.deployment.storage import SCHEMA
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets.orchestration.launch import open_instance
from backfill_assets_tests.postgres import unset_variables
from backfill_assets_tests.support import PROJECT, rows

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-06-01")
KEY = dg.AssetKey(["m", "a"])
CELLS = ("m", "cells")
OPEN = """
import sys
import dagster as dg
import backfill_assets.deployment.storage
print("ready", flush=True)
input()
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    print(instance.get_runs_count())
"""


@dg.multi_asset(
    name="m",
    specs=[dg.AssetSpec(KEY, skippable=True), dg.AssetSpec(["m", "b"], skippable=True)],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    can_subset=True,
)
def logged(context: dg.AssetExecutionContext):
    """Materialize every second partition of the run; fail if the run has the tag `fail`."""
    found = [
        dg.AssetMaterialization(KEY, partition=p, metadata={"bars": i})
        for i, p in enumerate(context.partition_keys)
        if i % 2 == 0
    ]
    log_materializations(context, found)
    if "fail" in context.run.tags:
        raise RuntimeError("as requested")
    yield from ()


DEFS = dg.Definitions(
    assets=[logged],
    jobs=[dg.define_asset_job("m_job", selection=dg.AssetSelection.all())],
    executor=dg.in_process_executor,
)
JOB = DEFS.resolve_job_def("m_job")


@pytest.fixture
def home(dagster_database_url, monkeypatch, tmp_path):
    """A project folder as a user has it, over the test's database."""
    return made_home(dagster_database_url, monkeypatch, tmp_path)


@pytest.fixture
def new_home(database_url, monkeypatch, tmp_path):
    """The same over a database without Dagster's tables."""
    return made_home(database_url, monkeypatch, tmp_path)


def made_home(url, monkeypatch, tmp_path):
    unset_variables(monkeypatch, BATCH_SIZE)
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path / "data"))
    return folder


@pytest.fixture
def instance(home):
    assert home
    with open_instance(Settings.read()) as opened:
        yield opened


def run(instance, home, *, assets=(KEY,), **tags):
    return run_in_process(
        instance,
        JOB,
        home / "workspace.yaml",
        assets=frozenset(assets),
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-04-09",
            **tags,
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def tables(url):
    """Return the names of all tables by schema."""
    found = {}
    for schema, name in rows(
        url, "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
    ):
        found.setdefault(schema, set()).add(name)
    return found


def sessions(url):
    return rows(
        url,
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() order by 1",
    )


def test_materializations_are_written_as_one_batch(instance, home, monkeypatch):
    storage, batches, singles = instance.event_log_storage, [], []
    many, one = storage.store_event_batch, storage.store_event
    monkeypatch.setattr(storage, "store_event_batch", lambda events: batches.append(list(events)) or many(events))
    monkeypatch.setattr(storage, "store_event", lambda event: singles.append(event) or one(event))
    done = run(instance, home)
    assert done.is_success

    written = [
        [e for e in batch if e.is_dagster_event and e.dagster_event.is_step_materialization] for batch in batches
    ]
    assert [len(batch) for batch in written if batch] == [50]
    assert not [e for e in singles if e.is_dagster_event and e.dagster_event.is_step_materialization]
    expected = DAYS.get_partition_keys()[:100:2]
    assert instance.get_materialized_partitions(KEY) == set(expected)
    stored = instance.all_logs(done.run_id, of_type={dg.DagsterEventType.ASSET_MATERIALIZATION})
    assert [(e.dagster_event.partition, e.step_key, e.job_name) for e in stored] == [
        (p, "m", "m_job") for p in expected
    ]
    assert stored[1].asset_materialization.metadata["bars"].value == 2


def test_a_run_in_this_process_has_the_origin_of_the_code_location(instance, home):
    """So that the UI can re-execute it and lists it on the job's page."""
    done = instance.get_run_by_id(run(instance, home, **{"backfill/trigger": "test"}).run_id)
    assert (done.job_name, done.asset_selection) == ("m_job", {KEY})
    assert done.tags["backfill/trigger"] == "test"
    origin = done.remote_job_origin
    assert (origin.location_name, origin.job_name) == ("backfill_assets", "m_job")
    assert origin.repository_origin.repository_name == "__repository__"
    loadable = origin.repository_origin.code_location_origin.loadable_target_origin
    assert (loadable.module_name, loadable.attribute) == ("backfill_assets.definitions", "defs")
    assert [r.run_id for r in instance.get_runs(dg.RunsFilter(tags={"backfill/trigger": "test"}))] == [done.run_id]
    plan = instance.get_execution_plan_snapshot(done.execution_plan_snapshot_id)
    assert plan.step_keys_to_execute == ["m"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_is_executed_in_this_process_and_returned_as_it_ended(instance, home, fails):
    done = run(instance, home, **({"fail": "yes"} if fails else {}))
    assert done.status is (dg.DagsterRunStatus.FAILURE if fails else dg.DagsterRunStatus.SUCCESS)
    # what was logged before the failure is kept
    assert len(instance.get_materialized_partitions(KEY)) == 50
    (started,) = instance.all_logs(done.run_id, of_type=dg.DagsterEventType.RUN_START)
    assert started.dagster_event.pid == os.getpid()


def test_a_run_can_select_some_assets_of_the_job(instance, home):
    assert run(instance, home, assets=[dg.AssetKey(["m", "b"])]).asset_selection == {dg.AssetKey(["m", "b"])}


@dg.multi_asset(
    name="cells",
    specs=[dg.AssetSpec([*CELLS, t]) for t in ("x", "y")],
    partitions_def=dg.MultiPartitionsDefinition(
        {"date": DAYS, "symbol": dg.StaticPartitionsDefinition(["B", "A", "C"])}
    ),
    backfill_policy=dg.BackfillPolicy.single_run(),
    can_subset=True,
)
def cells():
    """Assets by day and symbol, like the OHLCV assets."""
    yield from ()


REPOSITORY = dg.Definitions(assets=[cells]).get_repository_def()


def launched(instance):
    return launch_backfill(
        instance,
        REPOSITORY,
        [dg.AssetKey([*CELLS, t]) for t in ("x", "y")],
        [("2024-01-02|B", "2024-01-03|A"), ("2024-02-01|C", "2024-02-01|C")],
        title="Two ranges",
        tags={"backfill/repair": "m"},
        at=datetime(2024, 6, 1, 12, tzinfo=UTC),
    )


def test_a_launched_backfill_is_stored_as_an_asset_backfill(instance):
    name = launched(instance)
    (backfill,) = instance.get_backfills()
    assert backfill.backfill_id == name
    assert backfill.is_asset_backfill
    assert (backfill.title, backfill.tags) == ("Two ranges", {"backfill/repair": "m"})
    assert backfill.status is BulkActionStatus.REQUESTED
    assert backfill.backfill_timestamp == datetime(2024, 6, 1, 12, tzinfo=UTC).timestamp()
    assert backfill.is_valid_serialization(REPOSITORY.asset_graph)
    assert instance.get_runs_count() == 0


def test_a_launched_backfill_targets_the_rectangles_between_the_corners(instance):
    name = launched(instance)
    # B comes before A: symbols are in the order of their definition, not of the alphabet
    keys = frozenset({"2024-01-02|B", "2024-01-03|B", "2024-01-02|A", "2024-01-03|A", "2024-02-01|C"})
    expected = {dg.AssetKey([*CELLS, t]): keys for t in ("x", "y")}
    assert unfinished_backfills(instance, REPOSITORY) == [UnfinishedBackfill(name, {"backfill/repair": "m"}, expected)]


@pytest.mark.parametrize("status", BulkActionStatus)
def test_a_backfill_is_unfinished_until_all_its_runs_have_ended(instance, status):
    launched(instance)
    (backfill,) = instance.get_backfills()
    instance.update_backfill(backfill.with_status(status))
    unfinished = {BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING}
    assert bool(unfinished_backfills(instance, REPOSITORY)) is (status in unfinished)


def test_a_backfill_is_found_by_another_process_and_repository(instance, home):
    name = launched(instance)
    assert home
    with open_instance(Settings.read()) as other:
        (found,) = unfinished_backfills(other, dg.Definitions(assets=[cells]).get_repository_def())
    assert found.backfill_id == name


def test_dagsters_tables_are_in_their_own_schema_and_the_market_tables_in_the_default_one(database_url, new_home):
    assert new_home
    before = tables(database_url)
    assert set(before) == {"public"}
    with open_instance(Settings.read()) as instance:
        instance.get_runs_count()
    found = tables(database_url)
    assert found["public"] == before["public"]
    assert set(found) == {"public", SCHEMA}
    assert found[SCHEMA] >= {"runs", "event_logs", "asset_keys", "job_ticks", "bulk_actions", "alembic_version"}


def test_connections_are_kept_open_and_dropped_ones_are_replaced(dagster_database_url, instance):
    def use():
        instance.get_runs_count()
        instance.fetch_materializations(KEY, limit=1)
        instance.all_instigator_state()

    use()
    kept = sessions(dagster_database_url)
    for _ in range(5):
        use()
        with dg.DagsterInstance.from_ref(instance.get_ref()) as of_a_tick:
            of_a_tick.get_runs_count()
    assert sessions(dagster_database_url) == kept
    assert len(kept) == 1, "of all storages and instances of a process"
    with psycopg.connect(dagster_database_url, autocommit=True) as killer:
        for (pid,) in kept:
            killer.execute("select pg_terminate_backend(%s, 5000)", [pid])
    use()
    assert not set(sessions(dagster_database_url)) & set(kept)
    close_idle_connections(instance)
    assert sessions(dagster_database_url) == []


def test_the_webservers_storages_share_one_pool_with_its_statement_timeout(dagster_database_url, instance):
    instance.optimize_for_webserver(statement_timeout=50, pool_recycle=60, max_overflow=0)
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        with storage._engine.connect() as connection:
            assert connection.exec_driver_sql("select current_schema()").scalar() == SCHEMA
            with pytest.raises(OperationalError, match="statement timeout"):
                connection.exec_driver_sql("select pg_sleep(60)")
    assert len(sessions(dagster_database_url)) == 1


def test_records_that_cannot_be_reached_are_one_error_without_output_of_dagster(
    dagster_database_url, home, capfd, caplog, monkeypatch
):
    assert home
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between Dagster's attempts

    def queried_while_the_database_goes_down():
        server, _, name = dagster_database_url.rpartition("/")
        with open_instance(Settings.read()) as opened:
            with psycopg.connect(f"{server}/postgres", autocommit=True) as killer:
                killer.execute(f'alter database "{name}" allow_connections false')
                killer.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [name]
                )
            opened.get_runs_count()

    with pytest.raises(DatabaseUnavailable, match="Dagster's records"):
        queried_while_the_database_goes_down()
    assert (capfd.readouterr().err, caplog.records) == ("", [])


def test_an_event_that_cannot_be_recorded_is_raised_and_its_values_are_not_shown(
    instance, home, dagster_database_url, capfd
):
    """Dagster itself writes the error to standard error: our sentence, without the statement and its values."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value  # recorded when the run is created
    with psycopg.connect(dagster_database_url) as connection:
        connection.execute(
            f"""create function {SCHEMA}.disk_full() returns trigger language plpgsql as
                $$ begin raise disk_full using message = 'No space left on device'; end $$"""
        )
        connection.execute(
            f"""create trigger disk_full before insert on {SCHEMA}.event_logs for each row
                when (new.dagster_event_type <> '{planned}') execute function {SCHEMA}.disk_full()"""
        )

    def executed():
        with records_needed():
            run(instance, home)

    with pytest.raises(DatabaseUnavailable, match="No space left on device"):
        executed()
    (run_id,) = [r.run_id for r in instance.get_runs()]
    shown = capfd.readouterr().err
    assert shown.startswith("Exception while writing logger call to event log: Dagster's records in PostgreSQL cannot")
    assert len(shown.splitlines()) == 1
    assert run_id not in shown


def test_output_of_steps_and_other_files_are_in_the_data_folder(instance, home, tmp_path):
    run(instance, home)
    logs = tmp_path / "data" / "dagster" / "compute_logs"
    assert list(logs.rglob("*.err"))
    assert Path(instance.storage_directory()).is_relative_to(tmp_path / "data" / "dagster")
    assert sorted(path.name for path in home.iterdir()) == ["dagster.yaml", "workspace.yaml"]


def test_the_instance_retries_crashes_only_and_runs_three_at_a_time(instance):
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert instance.run_retries_retry_on_asset_or_op_failure is False
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 3
    assert instance.run_monitoring_enabled
    assert not instance.telemetry_enabled


def test_the_users_own_options_parameter_is_kept(dagster_database_url, home, monkeypatch):
    assert home
    monkeypatch.setenv("DATABASE_URL", f"{dagster_database_url}?options=-cwork_mem%3D7MB&application_name=mine")
    with open_instance(Settings.read()) as opened:
        opened.get_runs_count()
        names = rows(
            dagster_database_url,
            "select distinct application_name from pg_stat_activity where application_name = 'mine'",
        )
        with opened.run_storage.connect() as connection:
            found = [connection.exec_driver_sql(f"show {name}").scalar() for name in ("work_mem", "search_path")]
    assert names == [("mine",)]
    assert found == ["7MB", SCHEMA]


def test_processes_that_open_a_new_instance_at_once_all_succeed(database_url, new_home):
    """Two others and this one, before Dagster's tables exist."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    others = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(new_home)], text=True, cwd=PROJECT, **pipes) for _ in range(2)
    ]
    assert [other.stdout.readline() for other in others] == ["ready\n"] * 2
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    with open_instance(Settings.read()) as ours:
        assert ours.get_runs_count() == 0
    results = [other.communicate(timeout=100) for other in others]
    assert [(o.returncode, out.strip()) for o, (out, _) in zip(others, results, strict=True)] == [(0, "0")] * 2, results
    assert set(tables(database_url)) == {"public", SCHEMA}
