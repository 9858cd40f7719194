"""The tables of splits and dividends: what an answer writes, and the marks that it makes with it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, Lookup, StoredAction
from backfill_assets.domain.corporate_actions import (
    ActionChanges,
    ActionKind,
    CorporateAction,
    ListedActions,
    SplitJump,
)
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.universe import Symbol
from backfill_assets_tests.support import MOMENT, rows

STORE = CorporateActionStore

NEW_YORK = HOURS[Kind.STOCKS].zone
SPLIT, DIVIDEND = ActionKind.SPLIT, ActionKind.DIVIDEND
FIRST = date(2024, 1, 2)
NAMES = ("AAPL", "MSFT", "NVDA")
SYMBOLS = tuple(Symbol(name, name) for name in NAMES)
ALL = frozenset((name, kind) for name in NAMES for kind in ActionKind)
LATER = MOMENT + timedelta(days=1)


def split(ex_date, to=10.0, old=1.0, symbol="NVDA", **more):
    return CorporateAction(symbol, SPLIT, date.fromisoformat(ex_date), ratio_from=old, ratio_to=to, **more)


def dividend(ex_date, cash=0.25, symbol="AAPL", **more):
    return CorporateAction(symbol, DIVIDEND, date.fromisoformat(ex_date), cash_amount=cash, **more)


@pytest.fixture
def record(store):
    def record(*actions, now=MOMENT, since=FIRST, complete=ALL, answered=SYMBOLS):
        return store.record(NAMES, ListedActions(since, actions, complete), answered, now, NEW_YORK)

    return record


def add_bars(url, symbol, timeframe, *bars):
    """Bars as (timestamp, price), and the coverage that says that there are some."""
    with psycopg.connect(url) as connection:
        for at, price in bars:
            connection.execute(
                """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
                   values (%s, %s, %s, %s, %s, %s, %s, 1000, 'polygon')""",
                [symbol, timeframe, at, price, price, price, price],
            )
        connection.execute(
            "insert into coverage values (%s, %s, '{[2024-01-02,2024-01-03]}') on conflict do nothing",
            [symbol, timeframe],
        )


def midnight(day):
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), NEW_YORK)


def marks(url):
    """Each mark's series and beginning."""
    return sorted(rows(url, "select symbol, timeframe, lower(stale) from feature_marks"))


def versions(url, table):
    return sorted(rows(url, f"select xmin::text, ctid::text, {table}::text from {table}"))  # noqa: S608  # a test's constant


# --- what is written


def test_an_answer_is_read_back(store, record):
    details = {"currency": "USD", "declared": FIRST, "record_date": FIRST, "pay_date": FIRST, "frequency": 4}
    actions = (dividend("2024-05-10", vendor_id="E1", **details), split("2024-06-10", vendor_id="E2"))
    assert record(*actions) == ActionChanges(new=actions)
    assert store.read(NAMES) == [StoredAction(e, MOMENT, MOMENT, None) for e in actions]
    assert store.read(["AAPL"]) == [StoredAction(actions[0], MOMENT, MOMENT, None)]
    assert store.lookups(["NVDA", "TSLA"]) == {"NVDA": Lookup("NVDA", FIRST, MOMENT)}


def test_the_same_answer_again_writes_and_marks_nothing(database_url, record):
    add_bars(database_url, "NVDA", "1d", (midnight("2024-06-10"), 100))
    actions = (dividend("2024-05-10"), split("2024-06-10"))
    record(*actions)
    before = versions(database_url, "corporate_events"), versions(database_url, "feature_marks")
    assert record(*actions, now=LATER) == ActionChanges()
    assert (versions(database_url, "corporate_events"), versions(database_url, "feature_marks")) == before


def test_a_changed_action_keeps_its_first_seen(store, record):
    before = dividend("2024-05-10", pay_date=date(2024, 5, 16))
    after = replace(before, pay_date=date(2024, 5, 17))
    record(before)
    record(after, now=LATER)
    assert store.read(NAMES) == [StoredAction(after, MOMENT, LATER, None)]


def test_a_withdrawn_action_stays_and_can_return(store, record):
    action = split("2024-06-10")
    record(action)
    record(now=LATER)
    assert store.read(NAMES) == [StoredAction(action, MOMENT, LATER, LATER)]
    record(now=LATER + timedelta(days=1))
    assert store.read(NAMES) == [StoredAction(action, MOMENT, LATER, LATER)]
    back = LATER + timedelta(days=2)
    record(action, now=back)
    assert store.read(NAMES) == [StoredAction(action, MOMENT, back, None)]


def test_a_lookup_keeps_the_earliest_requested_day(store, record):
    record()
    record(since=date(2024, 5, 1), now=LATER, answered=SYMBOLS[1:])
    assert store.lookups(["AAPL", "MSFT"]) == {
        "AAPL": Lookup("AAPL", FIRST, MOMENT),
        "MSFT": Lookup("MSFT", FIRST, LATER),
    }
    record(since=date(2023, 5, 1), now=LATER, answered=SYMBOLS[:1])
    assert store.lookups(["AAPL"]) == {"AAPL": Lookup("AAPL", date(2023, 5, 1), LATER)}


def test_a_lookup_restarts_with_another_ticker(store, record):
    record()
    record(since=date(2024, 5, 1), now=LATER, answered=[Symbol("AAPL", "APPL")])
    assert store.lookups(["AAPL"]) == {"AAPL": Lookup("APPL", date(2024, 5, 1), LATER)}


# --- marks


def test_a_split_marks_the_series_of_its_symbol_from_the_ex_date_on(database_url, record):
    for name in NAMES:
        for timeframe in ("1m", "1d"):
            add_bars(database_url, name, timeframe, (midnight("2024-01-03"), 100), (midnight("2024-06-11"), 100))
    record(split("2024-06-10"), split("2024-01-09", 1, 8, symbol="AAPL"), dividend("2024-03-01", symbol="MSFT"))
    assert marks(database_url) == [
        *(("AAPL", t, datetime(2024, 1, 9, 5, tzinfo=UTC)) for t in ("1d", "1m")),
        *(("NVDA", t, datetime(2024, 6, 10, 4, tzinfo=UTC)) for t in ("1d", "1m")),
    ]


def test_withdrawn_returned_and_postponed_splits_mark(database_url, record):
    add_bars(database_url, "NVDA", "1d", (midnight("2024-06-10"), 100))

    def newly_marked():
        found = [begin.astimezone(NEW_YORK).date() for _, _, begin in marks(database_url)]
        with psycopg.connect(database_url) as connection:
            connection.execute("delete from feature_marks")
        return found

    record(split("2024-06-10"))
    newly_marked()
    record(split("2024-06-17"))
    assert newly_marked() == [date(2024, 6, 10), date(2024, 6, 17)]
    record(split("2024-06-10"))
    assert newly_marked() == [date(2024, 6, 10), date(2024, 6, 17)]
    record(split("2024-06-10", 4))
    assert newly_marked() == [date(2024, 6, 10)]
    record(split("2024-06-10", 4, vendor_id="E9"))
    assert newly_marked() == []


def test_a_future_split_marks_no_stored_bar(database_url, store, record):
    add_bars(database_url, "NVDA", "1d", (midnight("2024-06-10"), 100))
    record(split("2999-01-02"))
    assert len(store.read(NAMES)) == 1
    overlapping = "select count(*) from feature_marks f join market_data m on f.stale @> m.timestamp"
    assert rows(database_url, overlapping) == [(0,)]


def test_actions_and_marks_are_written_atomically(database_url, store, record):
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table feature_marks rename to elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        record(dividend("2024-05-10"), split("2024-06-10"))
    assert store.read(NAMES) == []
    assert store.lookups(NAMES) == {}


def test_no_bar_is_changed(database_url, record):
    for name in NAMES:
        add_bars(database_url, name, "1d", (midnight("2024-06-07"), 1000), (midnight("2024-06-10"), 100))
    before = versions(database_url, "market_data")
    record(split("2024-06-10"), dividend("2024-06-10"))
    record()
    record(split("2024-06-10"))
    assert versions(database_url, "market_data") == before


def test_concurrent_answers_are_written_once(database_url, record):
    add_bars(database_url, "NVDA", "1d", (midnight("2024-06-10"), 100))
    action = split("2024-06-10")
    with ThreadPoolExecutor(4) as pool:
        changes = list(pool.map(lambda _: record(action), range(4)))
    assert sorted(len(c.new) for c in changes) == [0, 0, 0, 1]
    assert len(marks(database_url)) == 1


# --- the prices around splits


def test_the_nearest_prices_within_a_week_of_a_split(database_url, store, record):
    add_bars(
        database_url,
        "NVDA",
        "1d",
        (midnight("2024-06-06"), 900),
        (midnight("2024-06-07"), 1000),
        (midnight("2024-06-10"), 100),
        (midnight("2024-06-11"), 101),
    )
    add_bars(database_url, "NVDA", "1m", (midnight("2024-06-08"), 1))
    add_bars(database_url, "MSFT", "1d", (midnight("2024-03-04"), 50), (midnight("2024-03-19"), 60))
    record(
        split("2024-06-10", 5),
        split("2024-06-10", 2),
        split("2024-06-09", 4, symbol="AAPL"),
        split("2024-03-12", 2, symbol="MSFT"),
        split("2025-07-01", 2, symbol="MSFT"),
        split("2025-07-02", 2, symbol="MSFT"),
    )
    assert store.split_jumps(NAMES, date(2025, 7, 1), NEW_YORK) == [
        SplitJump("AAPL", date(2024, 6, 9), 4, None, None),
        SplitJump("MSFT", date(2024, 3, 12), 2, None, None),
        SplitJump("MSFT", date(2025, 7, 1), 2, None, None),
        SplitJump("NVDA", date(2024, 6, 10), 10, 1000, 100),
    ]
    record(split("2024-06-10", 5), now=LATER)
    assert store.split_jumps(["NVDA"], date(2025, 7, 1), NEW_YORK) == [
        SplitJump("NVDA", date(2024, 6, 10), 5, 1000, 100)
    ]
