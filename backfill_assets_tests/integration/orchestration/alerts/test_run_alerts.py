"""The sensor that alerts on failed runs, however they were started."""

from datetime import timedelta

import dagster as dg
import pytest

from backfill_assets.adapters.processes import machine
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.runs import HOST_TAG, PROCESS_TAG, WILL_RETRY_TAG, end_dead_runs
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.simulator import Fault
from backfill_assets_tests.dagster_harness import QUIET, definitions
from backfill_assets_tests.integration.orchestration.alerts.alerting import Sensor, ended_run
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, create_run, range_tags
from backfill_assets_tests.support import MOMENT, universe

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
OHLCV, FEATURES, BACKFILL = "run:stocks_ohlcv_job", "run:stocks_features_job", "backfill:stocks"
BARS = frozenset({dg.AssetKey(["stocks", "ohlcv_1d"])})
CRASH = ("ZeroDivisionError", "division by zero")
REFUSAL = Fault(kind="status", status=401)
SERIES = ("SeriesFailed", "1 of 3 series could not be fetched completely: AAPL 1d: …")


@pytest.fixture
def sensor(harness, hook):
    assert hook
    return Sensor("run_alerts", harness.instance, harness.definitions)


def run(harness, minutes, error=None, job="stocks_ohlcv_job", day=0, **fields):
    """Create a run of two minutes that ended so many minutes and days after MOMENT."""
    end = MOMENT + day * DAY + minutes * MINUTE
    return ended_run(harness.instance, job, end - 2 * MINUTE, end, error, **fields)


# --- Crashes


def test_a_refused_key_is_critical_once_and_recovers_with_the_next_success(harness, sensor, hook):
    assert sensor.tick() == "No alert is open."
    harness.vendor.change(faults=(REFUSAL,))
    assert not harness.run("2025-06-16|AAPL", "2025-06-17|AAPL").success
    for _ in range(3):
        sensor.tick()
    assert hook.titles == [f"CRITICAL: {OHLCV}"]
    (message,) = hook.received
    assert "a run failed. Polygon" in message["message"]
    assert "Repair:     backfill run --markets stocks" in message["message"]
    (failed,) = harness.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert f"/runs/{failed.run_id}" in message["message"]
    harness.vendor.change(faults=())
    assert harness.run("2025-06-16|AAPL", "2025-06-17|AAPL").success
    sensor.tick()
    assert hook.titles[1:] == [f"RECOVERED: {OHLCV}"]


def test_a_run_that_failed_for_single_series_is_not_an_alert(harness, sensor, hook):
    harness.vendor.change(faults=(Fault(kind="status", status=400, ticker="AAPL"),))
    assert not harness.run("2025-06-16|AAPL", "2025-06-17|MSFT").success
    assert sensor.tick() == "No alert is open."
    assert hook.received == []


def test_a_failed_backfill_launched_in_the_dagster_ui_is_an_alert(harness, sensor, hook):
    harness.vendor.change(faults=(REFUSAL,))
    job = harness.defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=harness.instance,
        asset_selection=list(BARS),
        tags=range_tags("2025-06-16|AAPL", "2025-06-17|AAPL"),
        run_config={"loggers": QUIET},
        raise_on_error=False,
    )
    assert not result.success
    assert result.dagster_run.job_name == "__ASSET_JOB"
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {OHLCV}"]


def test_a_command_whose_process_died_is_a_warning(harness, sensor, hook):
    tags = {HOST_TAG: machine(), PROCESS_TAG: "999999@1.00"}
    create_run(harness.instance, dg.DagsterRunStatus.STARTED, tags, asset_selection=BARS)
    with RunStore(harness.database_url) as runs:
        assert end_dead_runs(harness.instance, runs) == 1
    sensor.tick()
    assert hook.titles == [f"WARNING: {OHLCV}"]
    assert "The process of this run died" in hook.received[0]["message"]


def test_the_record_of_a_run_whose_process_died_is_closed(harness, sensor):
    with RunStore(harness.database_url) as runs:
        run_id = run(harness, -5, ("", "gone"), step_error=False)
        runs.start(RunStart(run_id, RunKind.OHLCV, "stocks", "nightly", MOMENT - 10 * MINUTE))
        sensor.tick()
        (record,) = runs.read(run_id=run_id)
    assert (record.run["status"], record.run["error"], record.run["finished_at"]) == (
        "failed",
        "gone",
        MOMENT - 5 * MINUTE,
    )


def test_a_failed_command_is_critical_like_any_other_run(harness, sensor, hook):
    run(harness, 0, ("KeyRefused", "Polygon refused the key."), tags={PROCESS_TAG: "1@1.00"})
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {OHLCV}"]


def test_a_crash_is_a_warning_if_the_daemon_retries_it_and_critical_otherwise(harness, sensor, hook):
    run(harness, 0, ("", "The run's process died."), step_error=False, tags={WILL_RETRY_TAG: "true"})
    sensor.tick()
    assert hook.titles == [f"WARNING: {OHLCV}"]
    assert "The run's process died. It will be retried." in hook.received[0]["message"]
    run(harness, 5, ("", "The run's process died."), step_error=False, tags={WILL_RETRY_TAG: "false"})
    sensor.tick()
    assert hook.titles[1:] == [f"now CRITICAL: {OHLCV}"]


def test_a_run_that_started_before_the_crash_does_not_resolve_it(harness, sensor, hook):
    run(harness, 0, CRASH)
    run(harness, 1)  # began before the crash
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {OHLCV}"]
    sensor.tick(cursor=None)
    run(harness, 10)
    sensor.tick(cursor=None)
    sensor.tick(cursor="no json")
    assert hook.titles == [f"CRITICAL: {OHLCV}", f"RECOVERED: {OHLCV}"]


def test_a_crash_resolved_before_the_tick_is_not_an_alert(harness, sensor, hook):
    run(harness, 0, CRASH)
    run(harness, 10)
    sensor.tick()
    assert hook.received == []


@pytest.mark.parametrize(
    ("job", "fields", "incident"),
    [
        ("stocks_ohlcv_checks", {}, "run:stocks_ohlcv_checks"),
        (
            "__ASSET_JOB",
            {"asset_selection": frozenset({dg.AssetKey(["stocks", "listings"])})},
            "run:stocks_listings_job",
        ),
        (
            "__ASSET_JOB",
            {"asset_selection": frozenset({dg.AssetKey(["stocks", "corporate_events"])})},
            "run:stocks_events_job",
        ),
        (
            "__ASSET_JOB",
            {
                "asset_selection": frozenset(),
                "asset_check_selection": frozenset({dg.AssetCheckKey(dg.AssetKey(["stocks", "ohlcv_1d"]), "x")}),
            },
            "run:stocks_ohlcv_checks",
        ),
    ],
)
def test_an_alert_names_the_job_of_the_runs_assets(harness, sensor, hook, job, fields, incident):
    run(harness, 0, CRASH, job, **fields)
    sensor.tick()
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {incident}"]


def test_a_canceled_run_is_not_an_alert(harness, sensor, hook):
    create_run(harness.instance, dg.DagsterRunStatus.CANCELED, {})
    sensor.tick()
    assert hook.received == []


# --- Features


@pytest.mark.parametrize("error", [CRASH, ("UnusableBars", "AAPL 1d: …")])
def test_any_failed_run_of_features_is_critical(harness, sensor, hook, error):
    run(harness, 0, error, "stocks_features_job")
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {FEATURES}"]
    run(harness, 10, job="stocks_features_job")
    sensor.tick()
    assert hook.titles[1:] == [f"RECOVERED: {FEATURES}"]


# --- Days


def test_three_days_without_a_success_are_critical_once_and_recover_with_a_success(harness, sensor, hook):
    run(harness, 0, day=-3)
    for day in (-2, -1, 0):
        assert hook.received == []
        run(harness, 0, SERIES, day=day)
        sensor.tick(MOMENT + day * DAY)
    run(harness, 5, SERIES)
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {BACKFILL}"]
    assert "failed on 3 consecutive days, 2025-06-29 to 2025-07-01" in hook.received[0]["message"]
    run(harness, 10)
    sensor.tick()
    assert hook.titles[1:] == [f"RECOVERED: {BACKFILL}"]


def test_backfills_from_the_dagster_ui_count_as_failed_days_and_other_jobs_do_not(harness, sensor, hook):
    run(harness, 0, SERIES, day=-3)
    run(harness, 0, SERIES, "__ASSET_JOB", day=-2, asset_selection=BARS)
    run(harness, 5, job="stocks_ohlcv_checks", day=-2)
    run(harness, 0, SERIES, "crypto_ohlcv_job", day=-1)
    sensor.tick()
    assert hook.received == []
    run(harness, 0, SERIES, day=0)
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {BACKFILL}"]


def test_the_count_survives_a_lost_cursor(harness, sensor, hook):
    for day in (-3, -2, -1):
        run(harness, 0, SERIES, day=day)
        sensor.tick(cursor=None)
    sensor.tick(cursor=None)
    assert hook.titles == [f"CRITICAL: {BACKFILL}"]


def test_alerts_about_markets_no_longer_in_the_universe_are_closed(harness, sensor, hook):
    run(harness, 0, CRASH)
    sensor.tick()
    sensor.definitions = lambda now: definitions(universe(CRYPTO), now)
    sensor.tick()
    assert hook.titles == [f"CRITICAL: {OHLCV}", f"CLOSED: {OHLCV}"]
