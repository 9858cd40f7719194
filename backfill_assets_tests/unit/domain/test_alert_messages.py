"""The text of messages."""

from datetime import UTC, datetime, timedelta

import pytest

from backfill_assets.domain.alert_history import Change, Incident, Notice, Notification
from backfill_assets.domain.alert_messages import format_duration, message, table, ui_path
from backfill_assets.domain.alerts import NOWHERE, Finding, Place, Severity

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
UI = "http://127.0.0.1:3000"
FOUND = Finding(
    "gap:stocks",
    Severity.CRITICAL,
    "stocks: AAPL has 9 unexplained missing sessions.",
    (("symbol", "missing", "sessions"), ("AAPL", "2025-06-02 to 2025-06-12", "9"), ("BRK.B", "2025-06-02", "1")),
    "backfill repair --symbols AAPL",
    Place(asset="stocks/ohlcv_1m", check="no_missing_sessions"),
)


def test_a_new_alert_has_sentence_severity_start_repair_and_link():
    sent = message(Change(None, FOUND, Notice.OPENED), NOW, UI)
    assert (sent.title, sent.severity) == ("CRITICAL: gap:stocks", Severity.CRITICAL)
    assert sent.body.splitlines() == [
        "stocks: AAPL has 9 unexplained missing sessions.",
        "",
        "Severity:   critical",
        "Since:      2025-07-01 12:00 UTC",
        "Repair:     backfill repair --symbols AAPL",
        "Dagster UI: http://127.0.0.1:3000/assets/stocks/ohlcv_1m?view=checks&checkDetail=no_missing_sessions",
        "",
        "symbol  missing                   sessions",
        "AAPL    2025-06-02 to 2025-06-12         9",
        "BRK.B   2025-06-02                       1",
    ]


@pytest.mark.parametrize(
    ("news", "title"), [(Notice.WORSENED, "now CRITICAL: gap:stocks"), (Notice.REMINDED, "still CRITICAL: gap:stocks")]
)
def test_a_repeated_alert_has_its_duration(news, title):
    known = Incident(1, FOUND, NOW - timedelta(hours=26), Notification(Severity.WARNING, NOW - timedelta(hours=26)))
    sent = message(Change(known, FOUND, news), NOW, UI)
    assert sent.title == title
    assert "Since:      2025-06-30 10:00 UTC (1 day 2 hours)" in sent.body.splitlines()


@pytest.mark.parametrize(
    ("gone", "title", "first"),
    [
        (False, "RECOVERED: gap:stocks", "Resolved:"),
        (True, "CLOSED: gap:stocks", "No longer watched:"),
    ],
)
def test_a_recovery_has_sentence_and_duration(gone, title, first):
    known = Incident(1, FOUND, NOW - timedelta(hours=3), None)
    sent = message(Change(known, None, Notice.RECOVERED, gone), NOW, UI)
    assert (sent.title, sent.severity) == (title, None)
    lines = sent.body.splitlines()
    assert lines[:2] == [first, FOUND.sentence]
    assert "It lasted 3 hours: 2025-07-01 09:00 UTC to 2025-07-01 12:00 UTC." in lines


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (NOWHERE, ""),
        (Place(asset="stocks/listings"), "/assets/stocks/listings"),
        (Place(asset="a/b c/1m", check="x y"), "/assets/a/b%20c/1m?view=checks&checkDetail=x+y"),
        (Place(run="0f1e"), "/runs/0f1e"),
        (Place(sensor="gap_repair"), "/locations/backfill_assets/sensors/gap_repair"),
        (Place(schedule="nightly"), "/locations/backfill_assets/schedules/nightly"),
    ],
)
def test_every_place_has_its_path(place, path):
    assert ui_path(place) == path


def test_an_alert_without_details_ends_with_its_link():
    bare = Finding("run:x", Severity.WARNING, "x: a run failed.", place=Place(run="0f1e"))
    assert message(Change(None, bare, Notice.OPENED), NOW, UI).body.splitlines()[-1] == f"Dagster UI: {UI}/runs/0f1e"


def test_the_rest_of_a_long_table_is_counted():
    rows = (("n",), *((str(n),) for n in range(30)))
    assert table(rows, 25)[-2:] == ["24", "… and 5 more."]
    assert len(table(rows, 30)) == 31


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=59), "less than a minute"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(minutes=61), "1 hour 1 minute"),
        (timedelta(hours=24), "1 day"),
        (timedelta(days=2, hours=4, minutes=50), "2 days 4 hours"),
        (timedelta(days=2, minutes=50), "2 days"),
    ],
)
def test_durations_have_two_units(duration, text):
    assert format_duration(duration) == text
