"""The tables of alerts on a real server: one transaction for a change and its messages, and an outbox that loses nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.domain.alert_history import Change, Incident, Notice, Notification
from backfill_assets.domain.alert_messages import Message
from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.domain.alerts import Finding, Place, Severity
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets_tests.support import rows

STORE = AlertStore

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FOUND = Finding(
    "gap:stocks",
    Severity.WARNING,
    "stocks: 100 % are missing, Ünicode too.",
    (("symbol", "sessions"), ("AAPL", "2")),
    "backfill repair",
    Place(asset="stocks/ohlcv_1m", check="no_missing_sessions"),
)
WORSE = Finding("gap:stocks", Severity.CRITICAL, "stocks: more.", reminds=False)
MESSAGE = Message("WARNING: gap:stocks", "text", Severity.WARNING)


def opens(_):
    return [(Change(None, FOUND, Notice.OPENED), MESSAGE)]


def settle(store, decide, channels, now):
    with store.locked() as alerts:
        for change, message in decide(alerts.incidents):
            alerts.write(change, message, channels, now)


def put_out(store, channels=("mailto", "json"), number=1, now=NOW):
    """So many messages of one incident: its opening, and reminders."""
    settle(store, opens, channels, now)
    for later in range(1, number):
        settle(
            store, lambda known: [(Change(known[0], FOUND, Notice.REMINDED), MESSAGE)], channels, now + later * MINUTE
        )


def test_a_check_has_its_newest_result(store):
    failed = CheckResult(
        "stocks/ohlcv_1d", "bars_are_valid", passed=False, error=True, sentence="Bad.", rows=FOUND.rows, repair="x"
    )
    other = CheckResult("crypto/ohlcv_1d", "bars_are_valid", passed=True, error=False, sentence="Good.")
    passed = replace(failed, passed=True, sentence="Good.", rows=(), repair=None)
    store.write_check_results([failed, other], NOW)
    assert store.check_results() == [other, failed]
    store.write_check_results([passed], NOW + MINUTE)
    store.write_check_results([failed], NOW)  # evaluated before
    assert store.check_results() == [other, passed]
    store.write_check_results([], NOW)


def test_an_incident_is_kept_as_it_was_found(store):
    put_out(store)
    (known,) = store.open()
    assert known == Incident(known.id, FOUND, NOW, Notification(Severity.WARNING, NOW))


def test_an_incident_goes_through_its_turns_and_leaves_its_history(store, database_url):
    put_out(store)
    later, end = NOW + MINUTE, NOW + 2 * MINUTE
    settle(store, lambda known: [(Change(known[0], WORSE, Notice.WORSENED), MESSAGE)], ["json"], later)
    (known,) = store.open()
    assert (known.finding, known.opened_at, known.notified) == (WORSE, NOW, Notification(Severity.CRITICAL, later))
    settle(store, lambda known: [(Change(known[0], FOUND, None), None)], ["json"], later)
    (known,) = store.open()
    assert (known.finding, known.notified) == (FOUND, Notification(Severity.CRITICAL, later))
    over = Message("RECOVERED: gap:stocks", "text", None)
    settle(store, lambda known: [(Change(known[0], None, Notice.RECOVERED), over)], ["json"], end)
    assert store.open() == []
    assert rows(database_url, "select incident, opened_at, recovered_at from alerts") == [("gap:stocks", NOW, end)]
    assert [(d.channel, d.message) for d in store.waiting()] == [
        ("json", MESSAGE),
        ("json", MESSAGE),
        ("json", over),
        ("mailto", MESSAGE),
    ]
    put_out(store, now=end)  # the same incident again
    assert len(rows(database_url, "select from alerts")) == 2


def test_alerts_without_a_channel_are_kept_and_not_marked_as_sent(store):
    settle(store, lambda _: [(Change(None, FOUND, Notice.OPENED), MESSAGE)], [], NOW)
    assert [i.notified for i in store.open()] == [None]
    assert store.waiting() == []


def test_a_change_and_its_messages_are_one_transaction(store, database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table alert_deliveries add constraint no check (channel <> 'json')")
    with pytest.raises(psycopg.errors.CheckViolation):
        put_out(store)
    assert store.open() == []
    assert store.waiting() == []


def test_two_processes_that_find_the_same_at_once_open_it_once(store, database_url):
    """The second is shown what the first has written."""
    shown, both = [], threading.Barrier(2)

    def judge(known):
        shown.append(len(known))
        return [] if known else [(Change(None, FOUND, Notice.OPENED), MESSAGE)]

    def look():
        with AlertStore(database_url, connections=1) as mine:
            both.wait(20)
            settle(mine, judge, ["json"], NOW)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(look) for _ in range(2)]:
            done.result(30)
    assert sorted(shown) == [0, 1]
    assert len(store.waiting()) == 1


# --- The outbox


def claim(store, channel="json", now=NOW):
    return store.claim(channel, now, now + 2 * MINUTE)


def test_a_message_is_given_to_one_and_is_gone_when_it_has_arrived(store):
    put_out(store)
    mine = claim(store)
    assert (mine.channel, mine.message, mine.attempts) == ("json", MESSAGE, 1)
    assert claim(store) is None
    assert claim(store, "mailto") is not None
    store.delivered(mine, NOW)
    assert claim(store) is None
    assert {d.channel for d in store.waiting()} == {"mailto"}


def test_a_failed_delivery_waits_for_its_next_attempt(store):
    put_out(store, ["json"])
    store.failed(claim(store), "it answered 500.", NOW + 5 * MINUTE)
    (waiting,) = store.waiting()
    assert (waiting.error, waiting.attempts, waiting.next_attempt_at) == ("it answered 500.", 1, NOW + 5 * MINUTE)
    assert claim(store, now=NOW + 4 * MINUTE) is None
    again = claim(store, now=NOW + 5 * MINUTE)
    assert again.attempts == 2
    store.delivered(again, NOW + 5 * MINUTE)
    assert store.waiting() == []


def test_a_delivery_that_was_begun_and_not_finished_is_offered_again_after_a_while(store):
    put_out(store, ["json"])
    assert claim(store)
    assert claim(store, now=NOW + MINUTE) is None
    assert claim(store, now=NOW + 2 * MINUTE).attempts == 2


def test_of_one_incident_the_earlier_message_goes_before_the_later(store):
    put_out(store, ["json"], number=3)
    now = NOW + 10 * MINUTE
    first = claim(store, now=now)
    assert first.created_at == NOW
    store.failed(first, "no", now + MINUTE)
    assert claim(store, now=now) is None
    again = claim(store, now=now + MINUTE)
    assert again.id == first.id
    store.delivered(again, now + MINUTE)
    assert [claim(store, now=now + MINUTE).created_at] == [NOW + MINUTE]


def test_a_failed_message_of_one_incident_keeps_no_other_incident_back(store):
    put_out(store, ["json"])
    other = Finding("gap:crypto", Severity.CRITICAL, "crypto.")
    settle(store, lambda _: [(Change(None, other, Notice.OPENED), MESSAGE)], ["json"], NOW)
    stuck = claim(store)
    store.failed(stuck, "no", NOW + 9 * MINUTE)
    free = claim(store)
    assert free.id != stuck.id
    store.delivered(free, NOW)  # the channel answers: what waits for it does not wait longer
    assert claim(store).id == stuck.id


def test_two_processes_never_send_to_one_channel_at_once(store, database_url):
    put_out(store, ["json"], number=1)
    other = Finding("gap:crypto", Severity.CRITICAL, "crypto.")
    settle(store, lambda _: [(Change(None, other, Notice.OPENED), MESSAGE)], ["json"], NOW)
    both = threading.Barrier(2)

    def serve():
        with AlertStore(database_url, connections=1) as mine:
            both.wait(20)
            return claim(mine)

    with ThreadPoolExecutor(2) as pool:
        claims = [done.result(30) for done in [pool.submit(serve) for _ in range(2)]]
    assert sum(found is not None for found in claims) == 1


def test_messages_for_a_removed_channel_go_to_the_first_one(store):
    put_out(store, ["slack"])
    store.failed(claim(store, "slack"), "no", NOW + 9 * MINUTE)
    store.hand_over(["mailto", "json"], NOW)
    (waiting,) = store.waiting()
    assert (waiting.channel, waiting.attempts, waiting.error, waiting.next_attempt_at) == ("mailto", 0, "", NOW)


def test_messages_that_another_channel_has_too_are_not_handed_over(store):
    put_out(store, ["slack", "json"])
    store.delivered(claim(store, "json"), NOW)
    store.hand_over(["json"], NOW)
    assert store.waiting() == []


def test_one_of_two_removed_channels_hands_over(store):
    put_out(store, ["slack", "tgram"])
    store.hand_over(["json"], NOW)
    assert [d.channel for d in store.waiting()] == ["json"]
    store.hand_over(["json"], NOW)
    assert [d.channel for d in store.waiting()] == ["json"]


def test_the_open_gaps_of_symbols_are_read_from_the_table_of_gaps(store, database_url):
    with psycopg.connect(database_url) as connection:
        for symbol, filled in (("AAPL", False), ("AAPL", True), ("MSFT", False)):
            connection.execute(
                """insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts,
                     first_seen, filled, filled_at)
                   values (%s, '1m', '2025-06-02', '2025-06-03', 2, 'missing', false, 1, now(), %s,
                     case when %s then now() end)""",
                [symbol, filled, filled],
            )
    days = DayRange(date(2025, 6, 2), date(2025, 6, 3))
    assert store.open_gaps(["AAPL"]) == [
        Gap("AAPL", "1m", days, 2, Reason.MISSING, explained=False, attempts=1, next_attempt_at=None)
    ]
