from datetime import date, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.series import MinuteSession, SeriesStore
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets_tests.support import MOMENT, rows

STORE = SeriesStore

MON, TUE, WED, THU, FRI = (date(2024, 3, d) for d in range(4, 9))
WEEK = DayRange(MON, FRI)
HOLE = "no minutes from 10:00 to 13:30"


@pytest.fixture
def record(database_url):
    """Insert rows into session_answers."""

    def record(symbol, counts, *, timeframe="1m", because=None):
        with psycopg.connect(database_url) as connection:
            for session, bars in counts.items():
                connection.execute(
                    """insert into session_answers
                         (symbol, timeframe, session, bars, answers, partial, partial_because, answered_at)
                       values (%s, %s, %s, %s, 1, %s, %s, %s)""",
                    [symbol, timeframe, session, bars, because is not None, because, MOMENT],
                )

    return record


def marked(url):
    return set(rows(url, "select symbol, timeframe, session from session_answers where partial"))


def test_sessions_ascend(store, record):
    record("AAPL", {WED: 7, MON: 390, TUE: 12})
    record("AAPL", {WED: 1, THU: 1}, timeframe="1d")
    assert store.minute_sessions(["AAPL"], WEEK) == {
        "AAPL": [
            MinuteSession(session, bars, None, None, None, has_day, partial=False, partial_because=None)
            for session, bars, has_day in ((MON, 390, None), (TUE, 12, None), (WED, 7, True))
        ]
    }


def test_only_minutes_of_the_symbols_and_days_are_returned(store, record):
    record("AAPL", {MON - ONE_DAY: 1, MON: 2, FRI: 3, FRI + ONE_DAY: 4})
    record("AAPL", {MON: 99}, timeframe="5m")
    record("SPY", {MON: 5})
    record("MSFT", {MON: 6})
    found = store.minute_sessions(["AAPL", "SPY", "NVDA"], WEEK)
    assert {symbol: [c.bars for c in counts] for symbol, counts in found.items()} == {"AAPL": [2, 3], "SPY": [5]}
    assert store.minute_sessions([], WEEK) == {}


def test_sessions_without_minutes_are_not_returned(store, record):
    record("AAPL", {MON: 0, TUE: 4})
    assert [c.session for c in store.minute_sessions(["AAPL"], WEEK)["AAPL"]] == [TUE]


def test_marks_are_set_and_removed(store, record, database_url):
    record("AAPL", {MON: 9, TUE: 9})
    record("SPY", {MON: 9}, because=HOLE)
    store.mark_partial({("AAPL", MON): HOLE, ("SPY", MON): None})
    assert marked(database_url) == {("AAPL", "1m", MON)}
    assert [(c.partial, c.partial_because) for c in store.minute_sessions(["AAPL"], WEEK)["AAPL"]] == [
        (True, HOLE),
        (False, None),
    ]


def test_other_timeframes_and_unknown_sessions_are_not_marked(store, record, database_url):
    record("AAPL", {MON: 9}, timeframe="5m")
    store.mark_partial({("AAPL", MON): HOLE, ("SPY", TUE): HOLE})
    assert marked(database_url) == set()
    assert len(rows(database_url, "select from session_answers")) == 1


def test_an_unchanged_mark_writes_no_row(store, record, database_url):
    record("AAPL", {MON: 9}, because=HOLE)
    query = "select xmin::text, ctid::text from session_answers"
    before = rows(database_url, query)
    store.mark_partial({("AAPL", MON): HOLE})
    store.mark_partial({})
    assert rows(database_url, query) == before


def test_a_mark_changes_nothing_else(store, record, database_url):
    record("AAPL", {MON: 9})
    query = "select session, bars, answers, failures, refused, answered_at from session_answers"
    before = rows(database_url, query)
    store.mark_partial({("AAPL", MON): HOLE})
    assert rows(database_url, query) == before


KEYS = st.tuples(st.sampled_from(["AAPL", "SPY"]), st.integers(0, 9).map(lambda n: MON + timedelta(days=n)))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(KEYS, st.integers(0, 3)),
    st.lists(st.dictionaries(KEYS, st.sampled_from([None, HOLE, ""])), max_size=3),
)
def test_the_last_mark_of_a_session_applies(store, record, database_url, counts, marks):
    with psycopg.connect(database_url) as connection:
        connection.execute("truncate session_answers")
    for (symbol, session), bars in counts.items():
        record(symbol, {session: bars})
    expected = {}
    for some in marks:
        store.mark_partial(some)
        expected |= some
    found = store.minute_sessions(["AAPL", "SPY"], DayRange(MON, MON + timedelta(days=9)))
    counted = {(symbol, c.session): (c.bars, c.partial, c.partial_because) for symbol, cs in found.items() for c in cs}
    assert counted == {
        key: (bars, expected.get(key) is not None, expected.get(key)) for key, bars in counts.items() if bars
    }
