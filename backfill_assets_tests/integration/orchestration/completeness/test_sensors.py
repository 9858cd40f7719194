"""The sensor that measures completeness once after runs of the bars, when no run of the market is in progress."""

import dagster as dg
import pytest

from backfill_assets.orchestration.completeness import sensors as module
from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, STOCKS, create_run, range_tags
from backfill_assets_tests.support import universe

STARTED, QUEUED, SUCCESS = (getattr(dg.DagsterRunStatus, s) for s in ("STARTED", "QUEUED", "SUCCESS"))
DEFINITIONS = definitions(universe(STOCKS, CRYPTO))
NOTHING = "No run of the bars has ended since the last tick."
DAILY = dg.AssetKey(["stocks", "ohlcv_1d"])


class Sensor:
    def __init__(self, instance):
        self.instance, self.cursor, self.message = instance, None, None

    def tick(self):
        """Tick, and return the names of the launched jobs."""
        with dg.build_sensor_context(
            instance=self.instance, repository_def=DEFINITIONS.get_repository_def(), cursor=self.cursor
        ) as context:
            data = DEFINITIONS.resolve_sensor_def("completeness_after_runs").evaluate_tick(context)
        assert all(r.tags["backfill/trigger"] == "after runs of the bars" for r in data.run_requests)
        assert all(not r.partition_key for r in data.run_requests)
        self.cursor, self.message = data.cursor, data.skip_message
        return [request.job_name for request in data.run_requests]

    def ran(self, status=SUCCESS, job="stocks_ohlcv_job", **fields):
        return create_run(
            self.instance, status, range_tags("2025-06-18|AAPL", "2025-06-18|AAPL"), job_name=job, **fields
        )

    def end(self, run, event=dg.DagsterEventType.RUN_SUCCESS):
        self.instance.report_dagster_event(
            dg.DagsterEvent(event_type_value=event.value, job_name=run.job_name, message="ended"), run.run_id
        )


@pytest.fixture
def fresh(blank_instance):
    return Sensor(blank_instance)


@pytest.fixture
def sensor(fresh):
    fresh.tick()
    return fresh


def test_the_first_tick_measures_every_market_and_the_next_none(fresh):
    fresh.ran()
    assert fresh.tick() == ["stocks_completeness_job", "crypto_completeness_job"]
    assert (fresh.tick(), fresh.message) == ([], NOTHING)


def test_without_runs_nothing_is_measured(sensor):
    assert [sensor.tick() for _ in range(3)] == [[], [], []]
    assert sensor.message == NOTHING


@pytest.mark.parametrize("status", [SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_any_ended_run_makes_its_market_be_measured_once(sensor, status):
    sensor.ran(status)
    assert sensor.tick() == ["stocks_completeness_job"]
    assert sensor.tick() == []


def test_many_runs_of_a_backfill_are_one_measurement(sensor):
    for _ in range(5):
        sensor.ran(job="__ASSET_JOB", asset_selection=frozenset({DAILY}))
    assert sensor.tick() == ["stocks_completeness_job"]
    assert sensor.tick() == []


def test_a_market_waits_until_the_last_of_its_runs_has_ended(sensor):
    sensor.ran()
    waiting = [sensor.ran(STARTED), sensor.ran(QUEUED)]
    assert (sensor.tick(), sensor.message) == (
        [],
        "Runs of stocks are in progress: measured when they have ended.",
    )
    for run in waiting:
        assert sensor.tick() == []
        sensor.end(run)
    assert sensor.tick() == ["stocks_completeness_job"]


def test_other_markets_do_not_wait(sensor):
    sensor.ran(STARTED)
    sensor.ran(job="crypto_ohlcv_job")
    assert sensor.tick() == ["crypto_completeness_job"]


def test_a_measurement_in_progress_is_not_repeated(sensor):
    measuring = sensor.ran(STARTED, job="stocks_completeness_job")
    sensor.ran()
    assert sensor.tick() == []
    sensor.end(measuring)
    assert sensor.tick() == ["stocks_completeness_job"]
    assert sensor.tick() == []


@pytest.mark.parametrize(
    ("job", "assets"),
    [
        ("stocks_completeness_job", None),
        ("stocks_ohlcv_checks", None),
        ("stocks_features_job", None),
        ("__ASSET_JOB", frozenset({dg.AssetKey(["stocks", "listings"])})),
        ("bonds_ohlcv_job", None),
    ],
)
def test_runs_that_fetch_no_bars_of_a_market_are_ignored(sensor, job, assets):
    sensor.ran(job=job, asset_selection=assets)
    assert sensor.tick() == []


def test_after_more_runs_than_a_tick_examines_every_market_is_measured(sensor, monkeypatch):
    monkeypatch.setattr(module, "MOST_RUNS", 2)
    for _ in range(3):
        sensor.ran(job="stocks_features_job")
    assert [sensor.tick() for _ in range(2)] == [["stocks_completeness_job", "crypto_completeness_job"], []]


@pytest.mark.parametrize(
    "cursor", ["", "{}", "nonsense", '{"seen": 3, "waiting": []}', '{"seen": null, "waiting": []}']
)
def test_an_unreadable_cursor_is_ignored(fresh, cursor):
    fresh.cursor = cursor
    assert fresh.tick() == ["stocks_completeness_job", "crypto_completeness_job"]
