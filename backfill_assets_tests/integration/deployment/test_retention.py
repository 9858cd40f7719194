"""The purge of Dagster's own tables after real runs; the Dagster UI shows the same as before."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest

from backfill_assets.deployment.retention import KEPT_DAYS, Purged, purge_events
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.orchestration.retention import purge_schedule
from backfill_assets_tests.integration.cli.conftest import backfill, environment
from backfill_assets_tests.support import rows, vendor, vendor_server

__all__ = ["backfill", "environment", "vendor", "vendor_server"]

WEEK = ("--symbols", "AAPL", "--start", "2024-03-04", "--end", "2024-03-06")
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def shown(backfill):
    """Return what the Dagster UI shows: materialized partitions, and the newest result of each check."""
    with backfill.instance() as instance:
        keys = [dg.AssetKey(["stocks", f"ohlcv_{t}"]) for t in ("1m", "1d")]
        partitions = {k.to_user_string(): sorted(instance.get_materialized_partitions(k)) for k in keys}
        checks = [dg.AssetCheckKey(k, "no_missing_sessions") for k in keys]
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        results = {
            str(k): record.event.dagster_event.asset_check_evaluation_data.passed for k, record in latest.items()
        }
    return partitions, results


def events(url):
    return dict(rows(url, "select dagster_event_type, count(*) from dagster.event_logs group by 1"))


@pytest.fixture
def busy(backfill, snapshots):
    """A database after two runs, the second of which repeated everything."""

    def two_runs():
        backfill("run", *WEEK)
        with psycopg.connect(backfill.database_url) as connection:
            connection.execute(
                "update session_answers set answered_at = answered_at - interval '1 day', partial = true"
            )
        backfill("run", *WEEK)

    snapshots.restore_or_make("two runs", backfill.database_url, two_runs)
    return backfill


def test_entries_that_are_shown_are_kept_and_the_rest_is_deleted(busy):
    before = shown(busy)
    counted = events(busy.database_url)
    gone = purge_events(busy.database_url, TOMORROW)
    left = events(busy.database_url)
    assert set(left) == {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
    assert shown(busy) == before
    assert all(before[0].values())
    assert gone.materializations == counted["ASSET_MATERIALIZATION"] - left["ASSET_MATERIALIZATION"] > 0
    assert gone.checks == counted["ASSET_CHECK_EVALUATION"] - left["ASSET_CHECK_EVALUATION"] > 0
    assert gone.events == sum(counted.values()) - sum(left.values()) - gone.materializations - gone.checks
    assert purge_events(busy.database_url, TOMORROW) == Purged(0, 0, 0)
    assert json.loads(busy("run", *WEEK, "--json").out)["planned_requests"] == 0


def test_newer_entries_are_kept(busy):
    assert purge_events(busy.database_url, datetime.now(UTC) - timedelta(days=1)) == Purged(0, 0, 0)


def test_a_run_that_has_not_ended_keeps_its_log(busy):
    with psycopg.connect(busy.database_url) as connection:
        connection.execute("update dagster.runs set status = 'STARTED'")
    assert purge_events(busy.database_url, TOMORROW).events == 0


@pytest.mark.parametrize(("days", "purged"), [(KEPT_DAYS - 1, False), (KEPT_DAYS + 1, True)])
def test_the_nightly_job_deletes_what_is_older_than_90_days(busy, days, purged):
    class Later(Clock):
        def now(self):
            return datetime.now(UTC) + timedelta(days=days)

    before, counted = shown(busy), events(busy.database_url)
    with busy.instance() as instance:
        done = purge_schedule().job.execute_in_process(
            instance=instance, resources={"clock": Later(), "store": MarketStore()}
        )
    assert done.success
    assert shown(busy) == before
    kept = {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
    left = rows(busy.database_url, "select distinct run_id, dagster_event_type from dagster.event_logs")
    assert {kind for run, kind in left if run != done.run_id} == (kept if purged else {*counted})


def test_a_database_without_dagster_has_nothing_to_purge(database_url):
    assert purge_events(database_url, TOMORROW) == Purged(0, 0, 0)


@pytest.mark.parametrize("age", ["90", "0d", "3651d", "-1d", "d", "9999d"])
def test_an_invalid_age_is_a_usage_error(backfill, age):
    result = backfill("db", "purge", "--older-than", age)
    assert result.code == 2
    assert "is not a number of days like 90d" in result.error


def test_the_command_reports_what_was_deleted(busy):
    result = busy("db", "purge")
    assert result.code == 0
    assert "older than 90 days: 0 log entries" in result.out
