"""What a message says, to the letter."""

from datetime import UTC, datetime, timedelta

import pytest

from backfill_assets.domain.alert_history import Incident, News, Told, Turn
from backfill_assets.domain.alert_messages import lasting, message, page, table
from backfill_assets.domain.alerts import NOWHERE, Finding, Place, Severity

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
DAGIT = "http://127.0.0.1:3000"
FOUND = Finding(
    "gap:stocks",
    Severity.CRITICAL,
    "stocks: AAPL lacks sessions without an explanation; AAPL lacks most: 9 sessions.",
    (("symbol", "missing", "sessions"), ("AAPL", "2025-06-02 to 2025-06-12", "9"), ("BRK.B", "2025-06-02", "1")),
    "backfill repair --symbols AAPL",
    Place(asset="stocks/ohlcv/1m", check="no_missing_sessions"),
)


def test_a_new_alert_says_what_how_bad_since_when_how_to_mend_it_and_where_to_look():
    told = message(Turn(None, FOUND, News.OPENED), NOW, DAGIT)
    assert (told.title, told.severity) == ("CRITICAL: gap:stocks", Severity.CRITICAL)
    assert told.body.splitlines() == [
        "stocks: AAPL lacks sessions without an explanation; AAPL lacks most: 9 sessions.",
        "",
        "Severity: critical",
        "Since:    2025-07-01 12:00 UTC",
        "Repair:   backfill repair --symbols AAPL",
        "Dagit:    http://127.0.0.1:3000/assets/stocks/ohlcv/1m?view=checks&checkDetail=no_missing_sessions",
        "",
        "symbol  missing                   sessions",
        "AAPL    2025-06-02 to 2025-06-12         9",
        "BRK.B   2025-06-02                       1",
    ]


@pytest.mark.parametrize(
    ("news", "title"), [(News.WORSENED, "now CRITICAL: gap:stocks"), (News.REMINDED, "still CRITICAL: gap:stocks")]
)
def test_an_alert_that_goes_on_says_so_and_for_how_long(news, title):
    known = Incident(1, FOUND, NOW - timedelta(hours=26), Told(Severity.WARNING, NOW - timedelta(hours=26)))
    told = message(Turn(known, FOUND, news), NOW, DAGIT)
    assert told.title == title
    assert "Since:    2025-06-30 10:00 UTC (1 day 2 hours)" in told.body.splitlines()


@pytest.mark.parametrize(
    ("gone", "title", "first"),
    [
        (False, "RECOVERED: gap:stocks", "This is over:"),
        (True, "CLOSED: gap:stocks", "This is not watched any more:"),
    ],
)
def test_the_end_says_what_it_was_and_how_long_it_lasted(gone, title, first):
    known = Incident(1, FOUND, NOW - timedelta(hours=3), None)
    told = message(Turn(known, None, News.RECOVERED, gone), NOW, DAGIT)
    assert (told.title, told.severity) == (title, None)
    lines = told.body.splitlines()
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
def test_every_place_has_its_page(place, path):
    assert page(place) == path


def test_an_alert_without_details_ends_after_its_link():
    bare = Finding("run:x", Severity.WARNING, "x: a run failed.", place=Place(run="0f1e"))
    assert message(Turn(None, bare, News.OPENED), NOW, DAGIT).body.splitlines()[-1] == f"Dagit:    {DAGIT}/runs/0f1e"


def test_of_a_long_table_the_rest_is_counted():
    rows = (("n",), *((str(n),) for n in range(30)))
    assert table(rows, 25)[-2:] == ["24", "… and 5 more."]
    assert len(table(rows, 30)) == 31


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=59), "less than a minute"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(minutes=61), "1 hour 1 minute"),
        (timedelta(hours=24), "1 day"),
        (timedelta(days=2, hours=4, minutes=50), "2 days 4 hours"),
        (timedelta(days=2, minutes=50), "2 days"),
    ],
)
def test_lengths_of_time_are_told_in_two_units(time, words):
    assert lasting(time) == words
