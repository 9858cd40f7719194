"""The sensor that alerts on gaps, failed checks and missing ticks: what a webhook receives."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.alerts.alerting import Sensor
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, STOCKS
from backfill_assets_tests.receivers import TOKEN, webhook
from backfill_assets_tests.support import MOMENT, universe

HALF_MINUTE = timedelta(seconds=30)
EARLIER = datetime(2025, 6, 24, 12, tzinfo=UTC)  # five sessions before MOMENT
GAP, LATEST = "gap:stocks", "check:stocks/ohlcv:latest_session_is_here"
VALID = "check:stocks/ohlcv_1d:bars_are_valid"


@pytest.fixture
def sensor(harness, hook):
    assert hook
    return Sensor("check_alerts", harness.instance, harness.definitions)


def holes(harness, *days, ticker="MSFT"):
    """Make the vendor have no bars of the symbol on these days of June."""
    dates = [datetime(2025, 6, day, tzinfo=UTC).date() for day in days]
    harness.vendor.change(holes=tuple(Hole(ticker=ticker, first=d, last=d) for d in dates))


def fill(harness, now=MOMENT, last="2025-06-30", **options):
    assert harness.run("2025-06-16|AAPL", f"{last}|NVDA", now=now, **options).success


def spoil(harness, high):
    """Set the high of a daily bar; None: a valid one."""
    with psycopg.connect(harness.database_url) as connection:
        connection.execute(
            "update market_data set high = coalesce(%s, greatest(open, close)) where symbol = 'AAPL' and timeframe = '1d' "
            "and timestamp >= '2025-06-26' and timestamp < '2025-06-27'",
            [high],
        )


def test_a_gap_warns_once_becomes_critical_once_and_recovers_once(harness, sensor, hook):
    holes(harness, 17, 18, 20)
    fill(harness, EARLIER, "2025-06-23")
    for _ in range(3):
        sensor.tick(EARLIER)
    assert hook.titles == [f"WARNING: {GAP}"]
    (message,) = hook.received
    assert "MSFT has 3 unexplained missing sessions." in message["message"]
    assert "Repair:     backfill repair --symbols MSFT" in message["message"]
    link = "http://127.0.0.1:3000/assets/stocks/ohlcv_1d?view=checks&checkDetail=no_missing_sessions"
    assert f"Dagster UI: {link}" in message["message"]

    assert harness.check().success  # nothing was fetched for a week
    for minutes in (0, 1):
        sensor.tick(MOMENT + timedelta(minutes=minutes))
    assert sorted(hook.titles[1:]) == [f"CRITICAL: {LATEST}", f"now CRITICAL: {GAP}"]

    harness.vendor.change(holes=())
    fill(harness, retry="NOW")
    for _ in range(3):
        sensor.tick(MOMENT + timedelta(minutes=8))
    assert sorted(hook.titles[3:]) == [f"RECOVERED: {LATEST}", f"RECOVERED: {GAP}"]


def test_one_missing_session_is_not_an_alert_nor_are_gaps_outside_the_universe(harness, sensor, hook):
    holes(harness, 18)
    fill(harness)
    with psycopg.connect(harness.database_url) as connection:
        connection.execute(
            """
            insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts,
              first_seen, detail, filled)
            select symbol, timeframe, '2025-06-02', '2025-06-13', 10, 'missing', false, 0, %s, '', false
            from (values ('OTHER', '1d'), ('MSFT', '4h')) as series (symbol, timeframe)""",
            [EARLIER],
        )
    assert sensor.tick() == "No alert is open."
    assert hook.received == []


def test_neither_a_restart_nor_a_lost_cursor_repeats_or_loses_alerts(harness, hook):
    """Each tick has definitions of its own; some have no cursor or an unreadable one."""
    holes(harness, 18, 24)
    fill(harness)
    cursor = None
    for number in range(6):
        sensor = Sensor("check_alerts", harness.instance, harness.definitions)
        given = [cursor, None, '{"event": 99999999}', "no json", cursor, None][number]
        sensor.tick(MOMENT + number * HALF_MINUTE, cursor=given)
        cursor = sensor.cursor
        if number == 2:
            spoil(harness, -1)
            assert harness.check().success
    assert hook.titles == [f"WARNING: {GAP}", f"CRITICAL: {VALID}"]


def test_a_failed_check_is_notified_with_its_table_and_recovers_when_it_passes(harness, sensor, hook):
    fill(harness)
    sensor.tick()
    spoil(harness, -1)
    assert harness.check().success
    sensor.tick()
    assert harness.check().success
    sensor.tick()
    (message,) = hook.received
    assert message["title"] == f"CRITICAL: {VALID}"
    assert "the check bars_are_valid fails" in message["message"]
    assert "AAPL" in message["message"].splitlines()[-1]
    spoil(harness, None)
    assert harness.check().success
    sensor.tick()
    assert hook.titles[1:] == [f"RECOVERED: {VALID}"]


def test_a_missing_newest_session_is_one_warning_for_all_timeframes(harness, sensor, hook):
    holes(harness, 30)
    fill(harness)
    sensor.tick()
    assert hook.titles == [f"WARNING: {LATEST}"]
    assert "stocks/ohlcv_1d  2025-06-30 is missing for 1 of 3 symbols." in hook.received[0]["message"]
    holes(harness)
    fill(harness, retry="NOW", only=["1d"])  # the week's check has not run again, and is still failed
    sensor.tick()
    assert hook.titles[1:] == []
    assert harness.check().success
    sensor.tick()
    assert hook.titles[1:] == [f"RECOVERED: {LATEST}"]


def test_a_result_of_a_check_that_is_not_defined_is_ignored(harness, sensor, hook):
    fill(harness)
    with AlertStore(harness.database_url) as store:
        store.write_check_results([CheckResult("other", "x", passed=False, error=True, sentence="Bad.")], MOMENT)
    sensor.tick()
    assert hook.received == []


def test_results_are_written_even_if_the_run_fails(harness):
    """The daily bars of one symbol fail; the newest results are those of the failed run."""
    harness.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/day/"),))
    assert not harness.run("2025-06-16|AAPL", "2025-06-30|NVDA").success
    query = "select passed, severity from check_results where asset = 'stocks/ohlcv_1d' and check_name = %s"
    assert harness.rows(query, "no_missing_sessions") == [(False, "error")]
    harness.vendor.change(faults=())
    fill(harness, retry="NOW")
    assert harness.rows(query, "no_missing_sessions") == [(True, "warning")]


def test_alerts_about_markets_no_longer_in_the_universe_are_closed(harness, sensor, hook):
    holes(harness, 18, 24)
    fill(harness)
    spoil(harness, -1)
    assert harness.check().success
    sensor.tick()
    assert sorted(hook.titles) == [f"CRITICAL: {VALID}", f"WARNING: {GAP}"]
    sensor.definitions = lambda now: definitions(universe(CRYPTO), now)
    sensor.tick()
    assert sorted(hook.titles[2:]) == [f"CLOSED: {VALID}", f"CLOSED: {GAP}"]
    sensor.definitions = lambda now: definitions(universe(STOCKS, CRYPTO), now)
    sensor.tick(cursor=None)
    assert len(hook.received) == 6


def test_without_channels_the_sensor_reports_it_and_alerts_are_stored(harness, monkeypatch):
    monkeypatch.delenv("ALERT_URLS", raising=False)
    holes(harness, 18, 24)
    fill(harness)
    sensor = Sensor("check_alerts", harness.instance, harness.definitions)
    assert sensor.tick() == "ALERT_URLS is not set: alerts are not sent. 1 alert open."
    assert harness.rows("select incident, told_at from alerts") == [(GAP, None)]
    with webhook() as hook:
        monkeypatch.setenv("ALERT_URLS", hook.url)
        sensor.tick()
        assert hook.titles == [f"WARNING: {GAP}"]


def test_a_channel_that_is_down_is_reported_without_its_address(harness, sensor, hook):
    holes(harness, 18, 24)
    fill(harness)
    hook.down()
    report = sensor.tick()
    assert report == (
        "1 alert open. 1 message for json waiting: no connection, or the login was refused; again at 12:01:00 UTC."
    )
    hook.up()
    assert sensor.tick(MOMENT + timedelta(minutes=1)) == "1 alert open. 1 message sent."
    kept = str([harness.rows(f"select * from {table}") for table in ("alerts", "alert_deliveries")])  # noqa: S608  # ours
    assert TOKEN not in kept + report + sensor.cursor
    assert str(hook.port) not in kept + report
