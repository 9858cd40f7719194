"""Every sensor and schedule ticks again after PostgreSQL was unavailable, with the same instance."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.store.schema import upgrade
from backfill_assets.deployment.storage import MarketPostgresStorage
from backfill_assets.domain.errors import DatabaseUnavailable
from backfill_assets.orchestration.resources import MarketStore
from backfill_assets_tests.dagster_harness import FixedClock, definitions
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, STOCKS
from backfill_assets_tests.postgres import FAST, public_folder
from backfill_assets_tests.support import KEY, MOMENT, universe

DEFS = definitions(universe(STOCKS, CRYPTO))
REPOSITORY = DEFS.get_repository_def()
SENSORS = sorted(sensor.name for sensor in REPOSITORY.sensor_defs)
SCHEDULES = sorted(schedule.name for schedule in REPOSITORY.schedule_defs)
NIGHT = datetime(2025, 7, 1, 2, tzinfo=UTC)
"""After a session of both markets."""

UNAVAILABLE = r"^(PostgreSQL at \S+|Dagster's records in PostgreSQL) cannot be used \(.+\); check DATABASE_URL\.$"


@pytest.fixture(scope="module")
def server():
    with public_folder() as folder:
        own = EmbeddedPostgres(folder, extra_configuration=FAST)
        upgrade(own.url())
        yield own
        own.stop()


@pytest.fixture
def instance(server, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", server.url())
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setattr(
        "dagster_postgres.utils.calculate_delay", lambda **_: 0
    )  # the pauses between Dagster's attempts
    overrides = {"storage": {"custom": {"module": MarketPostgresStorage.__module__, "class": "MarketPostgresStorage"}}}
    with dg.instance_for_test(overrides=overrides, temp_dir=str(tmp_path)) as made:
        yield made


def tick(instance, name):
    with dg.build_sensor_context(
        instance=instance,
        repository_def=REPOSITORY,
        resources={"clock": FixedClock(at=MOMENT.isoformat()), "store": MarketStore()},
    ) as context:
        return DEFS.resolve_sensor_def(name).evaluate_tick(context)


def scheduled(instance, name):
    with dg.build_schedule_context(instance, repository_def=REPOSITORY, scheduled_execution_time=NIGHT) as context:
        return DEFS.resolve_schedule_def(name).evaluate_tick(context)


def test_there_are_sensors_and_schedules():
    assert len(SENSORS) >= 5
    assert len(SCHEDULES) >= 12


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_reports_an_unavailable_database_and_continues_afterwards(name, server, instance):
    assert tick(instance, name) is not None
    server.stop()

    with pytest.raises(DatabaseUnavailable, match=UNAVAILABLE) as failed:
        tick(instance, name)
    assert "\n" not in str(failed.value)
    assert failed.value.__suppress_context__, "the tick's error does not show the driver's"

    server.url()
    assert tick(instance, name) is not None


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_requests_the_same_run_without_the_database(name, server, instance):
    """It reads nothing, and an instance connects with its first query."""
    before = scheduled(instance, name)
    assert before.run_requests
    server.stop()
    assert scheduled(instance, name).run_requests == before.run_requests
    server.url()
