"""`backfill alerts`: open alerts, undelivered messages, missing heartbeats; and the test of the channels."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from dagster._daemon.types import DaemonHeartbeat

from backfill_assets.adapters.notify import channel_names
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.domain.alert_rules import (
    CheckResult,
    FailedDaysObservation,
    Failure,
    GapObservation,
    JobObservation,
    KeyObservation,
)
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.pipelines.alerts import AlertSettings, settle
from backfill_assets_tests.integration.orchestration.alerts.alerting import Ticks
from backfill_assets_tests.receivers import PASSWORD, TOKEN, mail_server, webhook
from backfill_assets_tests.support import unused_port

NOW = OLD = datetime.min.replace(tzinfo=UTC)  # each test has its own


@pytest.fixture(autouse=True)
def _present(monkeypatch):
    """Set NOW when a test runs: a heartbeat from the time of collection would be too old."""
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setitem(globals(), "NOW", now)
    monkeypatch.setitem(globals(), "OLD", now - timedelta(hours=3))


DAYS = DayRange(datetime(2025, 6, 2, tzinfo=UTC).date(), datetime(2025, 6, 11, tzinfo=UTC).date())
GAPS = GapObservation(
    "stocks",
    (Gap("AAPL", "1m", DAYS, 8, Reason.MISSING, explained=False, attempts=2, next_attempt_at=None),),
    {"1m": "stocks/ohlcv_1m"},
)
CRASH = JobObservation("crypto_ohlcv_job", Failure("0f1e", "It broke."))
UNWATCHED = "The Dagster daemon is down"


def open_alerts(backfill, *seen, urls=(), error=None):
    """Open alerts at OLD and notify the channels of `urls`; with `error`, the first attempts fail."""
    alert_settings = AlertSettings(tuple(channel_names(urls)), timedelta(hours=24), "http://127.0.0.1:3000")
    with AlertStore(backfill.database_url, connections=1) as store:
        settle(store, seen, alert_settings, OLD)
        for name in alert_settings.channels:
            while due := store.claim(name, OLD, OLD + timedelta(minutes=2)):
                if error:
                    store.failed(due, error, NOW + timedelta(hours=1))
                    break
                store.delivered(due, OLD)


@pytest.fixture
def watched(backfill):
    """Record heartbeats of the daemon, and ticks of both sensors."""
    with backfill.instance() as instance:
        for part in ("SENSOR", "SCHEDULER"):
            instance.add_daemon_heartbeat(DaemonHeartbeat(NOW.timestamp(), part, "d", []))
        ticks = Ticks(instance)
        for name in ("check_alerts", "run_alerts"):
            ticks.on(name, OLD)
            ticks.tick(name, NOW)
    return backfill


@pytest.fixture
def hook(monkeypatch):
    with webhook() as running:
        monkeypatch.setenv("ALERT_URLS", running.url)
        yield running


def test_nothing_is_open_and_the_daemon_runs(watched, hook):
    assert hook
    result = watched("alerts")
    assert (result.code, result.out, result.err) == (0, "No alert is open.\n", "")


def test_an_open_alert_is_listed_with_its_details_and_repair(watched, hook):
    open_alerts(watched, GAPS, CRASH, urls=[hook.url])
    result = watched("alerts")
    assert result.code == 3
    assert result.out.splitlines() == [
        "CRITICAL  gap:stocks",
        "  stocks: AAPL has 8 unexplained missing sessions.",
        f"  Since {OLD:%Y-%m-%d %H:%M} UTC, 3 hours; notified at {OLD:%Y-%m-%d %H:%M} UTC.",
        "  Repair: backfill repair --symbols AAPL",
        "    symbol  timeframes  missing                   days  tries  next try (UTC)",
        "    AAPL    1m          2025-06-02 to 2025-06-11     8      2  none",
        "",
        "CRITICAL  run:crypto_ohlcv_job",
        "  crypto_ohlcv_job: a run failed. It broke.",
        f"  Since {OLD:%Y-%m-%d %H:%M} UTC, 3 hours; notified at {OLD:%Y-%m-%d %H:%M} UTC.",
        "",
    ]


def test_json_has_the_same_content(watched, hook):
    open_alerts(watched, GAPS, urls=[hook.url], error="it answered 500.")
    result = watched("alerts", "--json")
    answer = json.loads(result.out)
    assert (result.code, answer["exit_code"]) == (3, 3)
    (alert,) = answer["alerts"]
    assert (alert["incident"], alert["severity"], alert["opened_at"]) == ("gap:stocks", "critical", OLD.isoformat())
    assert alert["repair"] == "backfill repair --symbols AAPL"
    assert alert["dagit"].endswith("/assets/stocks/ohlcv_1m?view=checks&checkDetail=no_missing_sessions")
    assert alert["details"][0]["symbol"] == "AAPL"
    assert answer["channels"] == ["json"]
    (waiting,) = answer["waiting"]
    assert (waiting["channel"], waiting["attempts"], waiting["error"]) == ("json", 1, "it answered 500.")
    assert answer["daemon_seen"] == NOW.isoformat()
    assert answer["last_looked"] == {"check_alerts": NOW.isoformat(), "run_alerts": NOW.isoformat()}
    assert answer["complaint"] is None
    assert TOKEN not in result.out + result.err


def test_failed_checks_of_what_is_missing_are_not_listed_while_the_key_is_refused(watched, hook):
    checks = [
        CheckResult("stocks/ohlcv_1m", name, passed=False, error=True, sentence="Bad.")
        for name in ("latest_session_is_here", "bars_are_valid")
    ]
    with AlertStore(watched.database_url, connections=1) as store:
        store.write_check_results(checks, NOW)
    listed = {"check latest_session_is_here failed", "check bars_are_valid failed"}
    assert {
        line.split(" for ")[0] for line in watched("alerts").out.splitlines() if line.startswith("check ")
    } == listed
    open_alerts(watched, KeyObservation(Failure("0f1e", "Polygon refuses the API key.")), urls=[hook.url])
    shown = watched("alerts").out
    assert "latest_session_is_here" not in shown
    assert "check bars_are_valid failed for stocks/ohlcv_1m\n  Bad.\n" in shown


def test_an_undelivered_message_is_shown_after_its_alert_is_closed(watched, hook):
    open_alerts(watched, GAPS, urls=[hook.url], error="it answered 500.")
    with AlertStore(watched.database_url, connections=1) as store:
        settle(store, [GapObservation("stocks", ())], AlertSettings((), timedelta(hours=24), ""), NOW)
    result = watched("alerts")
    assert result.code == 3
    assert result.out.startswith("No alert is open.\n1 message not delivered:\n")
    assert "it answered 500." in result.out
    assert "CRITICAL: gap:stocks" in result.out


def test_a_message_for_a_removed_channel_is_marked(watched, monkeypatch):
    open_alerts(watched, GAPS, urls=["slack://a/b/c"], error="it answered 500.")
    monkeypatch.delenv("ALERT_URLS", raising=False)
    result = watched("alerts")
    assert "ALERT_URLS is not set: alerts are not sent." in result.out
    assert "no longer in ALERT_URLS" in result.out


def test_a_daemon_that_never_ran_is_reported_with_exit_code_3(backfill, hook):
    assert hook
    result = backfill("alerts")
    assert result.code == 3
    assert result.out.splitlines()[1].startswith(f"{UNWATCHED} (never seen): nothing is watched")


def test_a_daemon_that_stopped_is_reported_with_exit_code_3(watched, hook):
    assert hook
    with watched.instance() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(OLD.timestamp(), "SENSOR", "d", []))
    result = watched("alerts")
    assert (result.code, UNWATCHED in result.out) == (3, True)
    assert "(last seen 3 hours ago)" in result.out
    assert json.loads(watched("alerts", "--json").out)["complaint"].startswith(UNWATCHED)


def test_a_sensor_that_does_not_tick_is_reported_with_exit_code_3(backfill, hook):
    assert hook
    with backfill.instance() as instance:
        for part in ("SENSOR", "SCHEDULER"):
            instance.add_daemon_heartbeat(DaemonHeartbeat(NOW.timestamp(), part, "d", []))
        ticks = Ticks(instance)
        for name, at in (("check_alerts", NOW), ("run_alerts", OLD)):
            ticks.on(name, OLD)
            ticks.tick(name, at)
    result = backfill("alerts")
    assert result.code == 3
    assert "The sensor run_alerts does not tick (last seen 3 hours ago)" in result.out


# --- The test of the channels


def test_each_channel_is_sent_a_message_and_its_result_is_printed(bare_backfill, monkeypatch):
    """It needs no database."""
    with webhook() as hook, mail_server() as mail:
        monkeypatch.setenv("ALERT_URLS", f"{hook.url} {mail.url}")
        result = bare_backfill("alerts", "test")
        assert (result.code, result.out, result.err) == (0, "json: accepted.\nmailto: accepted.\n", "")
        assert hook.titles == ["TEST of the alerts of backfill_assets"]
        assert "Nothing is wrong." in hook.received[0]["message"]
        assert len(mail.received) == 1
        monkeypatch.setenv("ALERT_URLS", f"{hook.url}, json://u:{PASSWORD}@127.0.0.1:{unused_port()}/{TOKEN}")
        result = bare_backfill("alerts", "test")
    assert result.code == 1
    assert result.out == "json: accepted.\njson 2: not accepted: no connection, or the login was refused.\n"
    assert not any(secret in result.out + result.err for secret in (PASSWORD, TOKEN, "127.0.0.1"))


def test_without_channels_there_is_nothing_to_test(bare_backfill, monkeypatch):
    monkeypatch.delenv("ALERT_URLS", raising=False)
    result = bare_backfill("alerts", "test")
    assert result.code == 2
    assert result.error == (
        "ALERT_URLS is not set: alerts are not sent. Set it to addresses like mailto://user:password@example.org."
    )


def test_failed_days_are_listed(watched, hook):
    days = tuple(DAYS)[:3]
    open_alerts(watched, FailedDaysObservation("crypto", days, "0f1e"), urls=[hook.url])
    assert "Repair: backfill run --markets crypto" in watched("alerts").out
