"""When the sensor has completeness measured: once after runs of the bars, when a market has come to rest."""

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
    """The sensor with its cursor, over an instance of its own."""

    def __init__(self, instance):
        self.instance, self.cursor, self.said = instance, None, None

    def tick(self):
        """The jobs that it launches."""
        with dg.build_sensor_context(
            instance=self.instance, repository_def=DEFINITIONS.get_repository_def(), cursor=self.cursor
        ) as context:
            data = DEFINITIONS.resolve_sensor_def("completeness_after_runs").evaluate_tick(context)
        assert all(r.tags["backfill/trigger"] == "after runs of the bars" for r in data.run_requests)
        assert all(not r.partition_key for r in data.run_requests)
        self.cursor, self.said = data.cursor, data.skip_message
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
def fresh():
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(instance)


@pytest.fixture
def sensor(fresh):
    fresh.tick()
    return fresh


def test_the_first_look_has_every_market_measured_and_the_next_one_none(fresh):
    fresh.ran()
    assert fresh.tick() == ["stocks_completeness_job", "crypto_completeness_job"]
    assert (fresh.tick(), fresh.said) == ([], NOTHING)


def test_while_nothing_ran_nothing_is_measured(sensor):
    assert [sensor.tick() for _ in range(3)] == [[], [], []]
    assert sensor.said == NOTHING


@pytest.mark.parametrize("status", [SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_run_that_ended_in_any_way_has_its_market_measured_once(sensor, status):
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
    assert (sensor.tick(), sensor.said) == (
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


def test_a_measurement_under_way_is_not_doubled(sensor):
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
def test_runs_that_fill_no_bars_of_ours_lead_to_nothing(sensor, job, assets):
    sensor.ran(job=job, asset_selection=assets)
    assert sensor.tick() == []


def test_after_more_runs_than_a_tick_looks_at_every_market_is_measured(sensor, monkeypatch):
    monkeypatch.setattr(module, "MOST_RUNS", 2)
    for _ in range(3):
        sensor.ran(job="stocks_features_job")
    assert [sensor.tick() for _ in range(2)] == [["stocks_completeness_job", "crypto_completeness_job"], []]


@pytest.mark.parametrize(
    "cursor", ["", "{}", "nonsense", '{"seen": 3, "waiting": []}', '{"seen": null, "waiting": []}']
)
def test_an_unreadable_cursor_is_a_first_look(fresh, cursor):
    fresh.cursor = cursor
    assert fresh.tick() == ["stocks_completeness_job", "crypto_completeness_job"]


def test_it_looks_without_being_switched_on():
    sensor = DEFINITIONS.resolve_sensor_def("completeness_after_runs")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert {target.job_name for target in sensor.targets} == {"stocks_completeness_job", "crypto_completeness_job"}
