from datetime import date, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.series import MinuteCount, SeriesStore
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets_tests.support import MOMENT, rows

MON, TUE, WED, THU, FRI = (date(2024, 3, d) for d in range(4, 9))
WEEK = DayRange(MON, FRI)


@pytest.fixture
def store(database_url):
    with SeriesStore(database_url) as opened:
        yield opened


@pytest.fixture
def record(database_url):
    """Insert rows into session_answers."""

    def record(symbol, counts, *, timeframe="1m", partial=False):
        with psycopg.connect(database_url) as connection:
            for session, bars in counts.items():
                connection.execute(
                    """insert into session_answers (symbol, timeframe, session, bars, answers, partial, answered_at)
                       values (%s, %s, %s, %s, 1, %s, %s)""",
                    [symbol, timeframe, session, bars, partial, MOMENT],
                )

    return record


def marked(url):
    return set(rows(url, "select symbol, timeframe, session from session_answers where partial"))


def test_counts_ascend_by_session(store, record):
    record("AAPL", {WED: 7, MON: 390, TUE: 12})
    assert store.minute_counts(["AAPL"], WEEK) == {
        "AAPL": [
            MinuteCount(MON, 390, partial=False),
            MinuteCount(TUE, 12, partial=False),
            MinuteCount(WED, 7, partial=False),
        ]
    }


def test_only_minutes_of_the_symbols_and_days_are_returned(store, record):
    record("AAPL", {MON - ONE_DAY: 1, MON: 2, FRI: 3, FRI + ONE_DAY: 4})
    record("AAPL", {MON: 99}, timeframe="5m")
    record("SPY", {MON: 5})
    record("MSFT", {MON: 6})
    found = store.minute_counts(["AAPL", "SPY", "NVDA"], WEEK)
    assert {symbol: [c.bars for c in counts] for symbol, counts in found.items()} == {"AAPL": [2, 3], "SPY": [5]}
    assert store.minute_counts([], WEEK) == {}


def test_sessions_without_minutes_are_not_returned(store, record):
    record("AAPL", {MON: 0, TUE: 4})
    assert [c.session for c in store.minute_counts(["AAPL"], WEEK)["AAPL"]] == [TUE]


def test_other_timeframes_and_unknown_sessions_are_not_marked(store, record, database_url):
    record("AAPL", {MON: 9}, timeframe="5m")
    store.mark_partial({("AAPL", MON): True, ("SPY", TUE): True})
    assert marked(database_url) == set()
    assert len(rows(database_url, "select from session_answers")) == 1


def test_an_unchanged_mark_writes_no_row(store, record, database_url):
    record("AAPL", {MON: 9}, partial=True)
    query = "select xmin::text, ctid::text from session_answers"
    before = rows(database_url, query)
    store.mark_partial({("AAPL", MON): True})
    store.mark_partial({})
    assert rows(database_url, query) == before


def test_a_mark_changes_nothing_else(store, record, database_url):
    record("AAPL", {MON: 9})
    query = "select session, bars, answers, failures, refused, answered_at from session_answers"
    before = rows(database_url, query)
    store.mark_partial({("AAPL", MON): True})
    assert rows(database_url, query) == before


KEYS = st.tuples(st.sampled_from(["AAPL", "SPY"]), st.integers(0, 9).map(lambda n: MON + timedelta(days=n)))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, st.integers(0, 3)), st.lists(st.dictionaries(KEYS, st.booleans()), max_size=3))
def test_the_last_mark_of_a_session_applies(store, record, database_url, counts, marks):
    with psycopg.connect(database_url) as connection:
        connection.execute("truncate session_answers")
    for (symbol, session), bars in counts.items():
        record(symbol, {session: bars})
    expected = {}
    for some in marks:
        store.mark_partial(some)
        expected |= some
    found = store.minute_counts(["AAPL", "SPY"], DayRange(MON, MON + timedelta(days=9)))
    counted = {(symbol, c.session): (c.bars, c.partial) for symbol, cs in found.items() for c in cs}
    assert counted == {key: (bars, expected.get(key, False)) for key, bars in counts.items() if bars}
