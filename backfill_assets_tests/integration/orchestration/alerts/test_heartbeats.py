"""Sensors and schedules that do not tick, and the alerts about them."""

from datetime import UTC, datetime, timedelta

import pytest
from dagster._core.test_utils import instance_for_test

from backfill_assets.deployment.private_api import Ticking
from backfill_assets.domain.alert_rules import HeartbeatObservation
from backfill_assets.orchestration.alerts.heartbeats import SILENT_AFTER, Watch, automation_names, observe_heartbeats
from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.alerts.alerting import Sensor, Ticks
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, STOCKS
from backfill_assets_tests.receivers import webhook
from backfill_assets_tests.support import MOMENT, universe

MINUTE = timedelta(minutes=1)
LONG_AGO = MOMENT - timedelta(days=20)
NIGHTLY = "stocks_ohlcv_nightly"
LAST_NIGHT = datetime(2025, 7, 1, 2, tzinfo=UTC)
REPOSITORY = definitions(universe(STOCKS, CRYPTO)).get_repository_def()
WATCHED = Watch(LONG_AGO, MOMENT)


def ticking(*, ago=None, last=None, started=LONG_AGO, off=False, error=""):
    """Return a state by the minutes since the last good tick, or by its instant."""
    good = MOMENT - timedelta(minutes=ago) if ago is not None else last
    return Ticking(off, started, good, error)


def seen(name, how, watch=WATCHED):
    found = observe_heartbeats({name: how} if how else {}, REPOSITORY, [name], watch)
    assert len(found) <= 1
    return found[0] if found else None


def test_all_sensors_and_schedules_that_are_on_by_default_are_watched():
    names = automation_names(REPOSITORY)
    assert {"gap_repair", "check_alerts", "run_alerts", NIGHTLY, "crypto_ohlcv_nightly"} <= names
    assert len(names) == len(REPOSITORY.sensor_defs) + len(REPOSITORY.schedule_defs)


# --- Sensors


@pytest.mark.parametrize(("minutes", "silent"), [(0, False), (5, False), (5.1, True), (600, True)])
def test_a_sensor_is_silent_when_it_has_missed_ten_ticks(minutes, silent):
    found = seen("gap_repair", ticking(ago=minutes))
    last = MOMENT - timedelta(minutes=minutes)
    assert found == HeartbeatObservation("gap_repair", schedule=False, silent=silent, switched_off=False, last=last)


def test_a_sensor_that_ticks_once_a_minute_has_more_time():
    assert not seen("stale_features", ticking(ago=10)).silent
    assert seen("stale_features", ticking(ago=11)).silent


def test_a_sensor_whose_ticks_fail_is_silent_with_its_error():
    found = seen("gap_repair", ticking(ago=20, error="The market tables are not there yet."))
    assert (found.silent, found.error) == (True, "The market tables are not there yet.")
    assert not seen("gap_repair", ticking(ago=1, error="Once.")).silent


def test_a_sensor_that_is_switched_off_is_marked():
    assert seen("gap_repair", ticking(ago=20, off=True)).switched_off
    assert seen("gap_repair", ticking(off=True, started=MOMENT)).switched_off


def test_sensors_that_could_not_have_ticked_yet_are_not_observed():
    assert seen("gap_repair", None) is None  # the daemon has not seen it
    new = ticking(started=MOMENT - MINUTE)
    assert seen("gap_repair", new) is None  # switched on a minute ago
    assert seen("gap_repair", new, Watch(LONG_AGO, MOMENT + 4 * MINUTE)).silent


def test_after_a_pause_of_the_daemon_sensors_have_their_full_time_again():
    stale = ticking(ago=60)
    watch = Watch.after(Watch(LONG_AGO, MOMENT - 60 * MINUTE), MOMENT)
    assert watch == Watch(MOMENT, MOMENT)
    assert seen("gap_repair", stale, watch) is None
    later = Watch.after(watch, MOMENT + SILENT_AFTER)
    assert later == Watch(MOMENT, MOMENT + SILENT_AFTER)
    assert seen("gap_repair", stale, later).silent
    assert not seen("gap_repair", ticking(ago=0), later).silent


# --- Schedules


@pytest.mark.parametrize(
    ("last", "now", "silent"),
    [
        (LAST_NIGHT, MOMENT, False),
        (LAST_NIGHT - timedelta(days=1), MOMENT, True),
        (LAST_NIGHT - timedelta(days=1), LAST_NIGHT + 14 * MINUTE, False),  # it has 15 minutes
        (LAST_NIGHT - timedelta(days=1), LAST_NIGHT + 16 * MINUTE, True),
    ],
)
def test_a_schedule_is_silent_when_it_has_missed_its_tick(last, now, silent):
    found = seen(NIGHTLY, ticking(last=last), Watch(LONG_AGO, now))
    assert (found.silent, found.schedule) == (silent, True)


def test_a_new_schedule_is_not_observed_before_its_first_tick():
    new = ticking(started=LAST_NIGHT + MINUTE)
    assert seen(NIGHTLY, new) is None
    assert seen(NIGHTLY, new, Watch(LONG_AGO, MOMENT + timedelta(days=1))).silent


# --- Alerts


@pytest.fixture
def instance(tmp_path):
    """An instance with schedule storage and one event log for all runs, as the project's own has."""
    module = "dagster._core.storage.event_log"
    with instance_for_test(
        overrides={
            "event_log_storage": {
                "module": module,
                "class": "ConsolidatedSqliteEventLogStorage",
                "config": {"base_dir": str(tmp_path)},
            }
        }
    ) as opened:
        yield opened


@pytest.fixture
def ticks(instance):
    return Ticks(instance)


@pytest.fixture
def hook(monkeypatch, database_url, tmp_path):
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    with webhook() as running:
        monkeypatch.setenv("ALERT_URLS", running.url)
        yield running


def watching(name, instance):
    return Sensor(name, instance, lambda now: definitions(universe(STOCKS, CRYPTO), now))


def test_a_sensor_that_stops_is_critical_once_and_recovers_once(instance, ticks, hook):
    ticks.on("gap_repair", LONG_AGO)
    sensor, now = watching("check_alerts", instance), MOMENT
    for minute in range(20):
        now = MOMENT + minute * MINUTE
        if minute < 5 or minute > 15:
            ticks.tick("gap_repair", now)
        sensor.tick(now)
        sensor.cursor = None if minute in {2, 13, 18} else sensor.cursor
    assert hook.titles == ["CRITICAL: heartbeat:gap_repair", "RECOVERED: heartbeat:gap_repair"]
    assert "http://127.0.0.1:3000/locations/backfill_assets/sensors/gap_repair" in hook.received[0]["message"]


def test_each_of_the_two_alerting_sensors_watches_the_other(instance, ticks, hook):
    ticks.on("check_alerts", LONG_AGO)
    ticks.on("run_alerts", LONG_AGO)
    for name, other in (("check_alerts", "run_alerts"), ("run_alerts", "check_alerts")):
        sensor = watching(name, instance)
        for minute in range(8):
            sensor.tick(MOMENT + minute * MINUTE)
        assert hook.titles.count(f"CRITICAL: heartbeat:{other}") == 1
    assert len(hook.received) == 2
