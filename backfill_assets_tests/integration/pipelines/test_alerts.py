"""From observations to delivered messages, with real tables, HTTP and SMTP."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from backfill_assets.adapters.notify import channel_names, channels
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.domain.alert_rules import Failure, GapObservation, HeartbeatObservation, JobObservation
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.pipelines.alerts import LONGEST_PAUSE, AlertSettings, deliver, pause, settle, summary
from backfill_assets_tests.receivers import PASSWORD, TOKEN, mail_server, webhook
from backfill_assets_tests.support import rows

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
START = date(2025, 6, 2)


def gaps(sessions, symbol="AAPL"):
    if not sessions:
        return GapObservation("stocks", ())
    days = DayRange(START, START + timedelta(days=sessions - 1))
    return GapObservation(
        "stocks",
        (Gap(symbol, "1m", days, sessions, Reason.MISSING, explained=False, attempts=0, next_attempt_at=None),),
    )


class Sensor:
    """An alert sensor, which remembers nothing but what the tables hold."""

    def __init__(self, database_url, *urls):
        self.url, self.urls, self.now = database_url, urls, NOW

    def look(self, *seen, after=MINUTE, removed=lambda _: False, secrets=()):
        self.now += after
        terms = AlertSettings(tuple(channel_names(self.urls)), 24 * HOUR, "http://127.0.0.1:3000", secrets)
        with AlertStore(self.url) as store:
            settle(store, seen, terms, self.now, removed)
            sent = deliver(store, channels(self.urls), lambda: self.now)
            return summary(store.open(), store.waiting(), sent)

    def restarted(self):
        after = Sensor(self.url, *self.urls)
        after.now = self.now
        return after


@pytest.fixture
def hook():
    with webhook() as running:
        yield running


@pytest.fixture
def sensor(database_url, hook):
    return Sensor(database_url, hook.url)


def test_a_gap_warns_once_becomes_critical_once_and_recovers_once(sensor, hook):
    assert sensor.look(gaps(1)) == "No alert is open."
    for sessions in (2, 2, 5, 7, 7):
        sensor.look(gaps(sessions))
    assert hook.titles == ["WARNING: gap:stocks"]
    for sessions in (8, 9, 300, 8):
        sensor.look(gaps(sessions))
    assert hook.titles == ["WARNING: gap:stocks", "now CRITICAL: gap:stocks"]
    for sessions in (3, 0, 0, 1):
        sensor.look(gaps(sessions))
    assert hook.titles == ["WARNING: gap:stocks", "now CRITICAL: gap:stocks", "RECOVERED: gap:stocks"]


def test_a_restart_neither_repeats_nor_loses_alerts(sensor, hook):
    for sessions in (2, 2, 8, 8, 0, 0):
        sensor.look(gaps(sessions))
        sensor = sensor.restarted()
    assert hook.titles == ["WARNING: gap:stocks", "now CRITICAL: gap:stocks", "RECOVERED: gap:stocks"]


def test_gaps_of_many_symbols_are_one_message(sensor, hook):
    many = GapObservation("stocks", tuple(g for n in range(9) for g in gaps(3, f"S{n}").gaps))
    sensor.look(many)
    (message,) = hook.received
    assert all(f"\nS{n}" in message["message"] for n in range(9))


def test_an_incident_that_lasts_is_notified_again_after_a_day_with_the_current_number(sensor, hook):
    sensor.look(gaps(2))
    sensor.look(gaps(2), after=23 * HOUR)
    assert len(hook.received) == 1
    sensor.look(gaps(5), after=HOUR)
    assert hook.titles[1:] == ["still WARNING: gap:stocks"]
    assert "AAPL has 5 unexplained missing sessions" in hook.received[1]["message"]
    assert "(1 day)" in hook.received[1]["message"]
    sensor.look(gaps(5), after=23 * HOUR)
    assert len(hook.received) == 2


def test_a_sensor_that_is_switched_off_is_reported_once_and_again_when_it_is_on(sensor, hook):
    off = HeartbeatObservation("gap_repair", schedule=False, silent=True, switched_off=True, last=NOW)
    on = HeartbeatObservation("gap_repair", schedule=False, silent=False, switched_off=False, last=NOW)
    for _ in range(5):
        sensor.look(off, after=30 * HOUR)
    sensor.look(on)
    assert hook.titles == ["WARNING: heartbeat:gap_repair", "RECOVERED: heartbeat:gap_repair"]


def test_an_incident_that_is_no_longer_watched_is_closed(sensor, hook):
    sensor.look(gaps(2))
    sensor.look(removed=lambda incident: incident == "gap:stocks")
    assert hook.titles == ["WARNING: gap:stocks", "CLOSED: gap:stocks"]


def test_a_channel_that_is_down_does_not_delay_others_and_is_served_later(database_url):
    with webhook() as hook, mail_server() as mail:
        sensor = Sensor(database_url, hook.url, mail.url)
        hook.down()
        report = sensor.look(gaps(2))
        assert [m["Subject"] for m in mail.received] == ["WARNING: gap:stocks"]
        assert report == (
            "1 alert open. 1 message sent. 1 message for json waiting: no connection, or the login was refused; "
            "again at 12:02:00 UTC."
        )
        sensor.look(gaps(8))
        sensor = sensor.restarted()
        sensor.look(gaps(0))
        assert len(mail.received) == 3
        assert hook.received == []
        hook.up()
        assert sensor.look(gaps(0), after=2 * HOUR) == "No alert is open. 3 messages sent."
        assert hook.titles == ["WARNING: gap:stocks", "now CRITICAL: gap:stocks", "RECOVERED: gap:stocks"]
        assert len(mail.received) == 3


def test_a_channel_that_is_down_is_retried_with_growing_pauses(database_url, sensor, hook):
    hook.status = 500
    looks = []
    for _ in range(66):
        sensor.look(gaps(2))
        looks.append(rows(database_url, "select attempts from alert_deliveries")[0][0])
    tries = [minute for minute, (a, b) in enumerate(pairwise(looks), start=2) if b > a]
    assert looks[0] == 1
    assert tries == [2, 4, 8, 16, 32, 64]
    assert rows(database_url, "select error, delivered_at from alert_deliveries") == [("it answered 500.", None)]
    hook.status = 200
    sensor.look(gaps(2), after=HOUR)
    assert hook.titles == ["WARNING: gap:stocks"]
    assert pause(1) == MINUTE
    assert pause(1000) == LONGEST_PAUSE


def test_two_sensors_at_once_notify_once(database_url, hook):
    both = threading.Barrier(2)

    def look():
        sensor = Sensor(database_url, hook.url)
        both.wait(20)
        sensor.look(gaps(2))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(look) for _ in range(2)]:
            done.result(40)
    assert hook.titles == ["WARNING: gap:stocks"]


def test_an_incident_that_lasts_is_notified_once_there_is_a_channel(database_url, hook):
    silent = Sensor(database_url)
    assert silent.look(gaps(2)) == "1 alert open."
    other = HeartbeatObservation("x", schedule=False, silent=True, switched_off=False, last=None)
    silent.look(other)
    silent.look(HeartbeatObservation("x", schedule=False, silent=False, switched_off=False, last=NOW))
    notifying = Sensor(database_url, hook.url)
    notifying.now = silent.now
    notifying.look(gaps(9))
    assert hook.titles == ["CRITICAL: gap:stocks"]
    assert "Since:      2025-07-01 12:01 UTC" in hook.received[0]["message"]


def test_a_message_is_delivered_once_the_channel_address_is_corrected(database_url):
    with mail_server() as mail:
        wrong = Sensor(database_url, mail.url.replace(PASSWORD, "typed-wrong"))
        wrong.look(gaps(2))
        right = Sensor(database_url, mail.url)
        right.now = wrong.now
        right.look(gaps(2))
        assert [m["Subject"] for m in mail.received] == ["WARNING: gap:stocks"]


def test_a_message_claimed_by_a_process_that_died_is_sent_by_another(database_url, hook):
    terms = AlertSettings(("json",), 24 * HOUR, "http://127.0.0.1:3000")
    with AlertStore(database_url) as store:
        settle(store, [gaps(2)], terms, NOW)
        assert store.claim("json", NOW, NOW + 2 * MINUTE)
    sensor = Sensor(database_url, hook.url)
    sensor.look(gaps(2))
    assert hook.titles == []
    sensor.look(gaps(2))
    assert hook.titles == ["WARNING: gap:stocks"]


def test_no_secret_reaches_tables_messages_or_the_tick(database_url):
    key = "sekrit-key-0123456789"
    failure = Failure("r1", f"Cannot reach postgresql://u:{PASSWORD}@h/d with {key}.")
    with webhook() as hook, webhook() as broken, mail_server() as mail:
        broken.status = 500
        sensor = Sensor(database_url, hook.url, mail.url, broken.url)
        report = sensor.look(JobObservation("stocks_ohlcv_job", failure), secrets=(key, PASSWORD))
        received = [str(hook.received), *(m.as_string() for m in mail.received)]
    assert len(hook.received) == len(mail.received) == 1
    kept = str([rows(database_url, f"select * from {table}") for table in ("alerts", "alert_deliveries")])  # noqa: S608  # ours
    assert "Cannot reach postgresql://u:***@h/d with ***." in kept
    for text in (kept, report, *received):
        for secret in (key, PASSWORD, TOKEN, f":{hook.port}", f":{mail.port}"):
            assert secret not in text
