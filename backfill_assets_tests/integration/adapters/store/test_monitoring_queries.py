"""The monitoring queries of docs/howto/operations.md, run as they stand there, and the counts that they read."""

import itertools
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.sessions import HOURS, Kind, count_by_session
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, made_from
from backfill_assets.simulator import Market, Scenario
from backfill_assets_tests.integration.adapters.store.test_schema import migrate
from backfill_assets_tests.support import PROJECT, rows

PAGE = (PROJECT / "docs" / "howto" / "operations.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Monitoring queries\n")[2].partition("\n## ")[0]
QUERIES = dict(re.findall(r"### ([^\n]+)\n\n```sql\n(.*?)```", SECTION, re.DOTALL))
GAPS, NEWEST, RECORDS = (
    "Unfilled gaps per symbol and timeframe",
    "Newest bar per symbol and timeframe",
    "Records per symbol",
)
NEWEST_BY_READING = "SELECT symbol, timeframe, MAX(timestamp) FROM market_data GROUP BY symbol, timeframe"
RECORDS_BY_READING = "SELECT symbol, COUNT(*) FROM market_data GROUP BY symbol"
NEW_YORK = HOURS[Kind.STOCKS].zone
DAYS = tuple(date(2024, 3, d) for d in range(4, 9))
NOW = datetime(2024, 3, 20, tzinfo=UTC)
INSERT = """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
  select s, t, '2024-03-04 14:30Z'::timestamptz + n * interval '1 minute', 1, 1, 1, 1, 1, 'by hand'
  from unnest(%s::text[]) s, unnest(%s::text[]) t, generate_series(%s::int, %s::int) n
  on conflict (symbol, timeframe, "timestamp") do update set close = 2"""

DELETE = """delete from market_data
  where symbol = any(%s) and timeframe = any(%s) and "timestamp" between %s and %s"""


def same_by_reading(url):
    """What the page asks for the quick way, and what reading every bar gives."""
    assert rows(url, QUERIES[NEWEST]) == sorted(rows(url, NEWEST_BY_READING))
    assert rows(url, QUERIES[RECORDS]) == sorted(rows(url, RECORDS_BY_READING))
    return dict(rows(url, QUERIES[RECORDS]))


@pytest.fixture
def stored(database_url, snapshots):
    """Two symbols in eight timeframes over a week, the second without its Friday; and the database's URL."""
    vendor = Market(Scenario(), lambda: NOW)

    def fill():
        with BarStore(database_url) as store:
            for symbol, days in (("AAPL", DAYS), ("MSFT", DAYS[:-1])):
                for timeframe, ask in ((MINUTE_1, vendor.minute_bars), (DAY_1, vendor.daily_bars)):
                    c = ask(symbol, days[0], days[-1])
                    bars = Bars(c.t, c.open, c.high, c.low, c.close, c.volume, c.vwap, c.trades)
                    answer = CompleteSessions(days, tuple(count_by_session(bars, days, NEW_YORK)), bars)
                    derived = made_from(timeframe, tuple(TIMEFRAMES.values()))
                    store.write(symbol, timeframe, answer, WriteContext(NEW_YORK, NOW, derived=derived, finished=DAYS))

    snapshots.restore_or_make("two series", database_url, fill)
    return database_url


def test_the_page_has_three_queries_under_their_headings():
    assert list(QUERIES) == [GAPS, NEWEST, RECORDS]
    assert SECTION.count("```sql") == 3


def test_unfilled_gaps_are_listed_by_symbol_and_timeframe_and_filled_ones_are_not(database_url):
    with psycopg.connect(database_url) as connection:
        for symbol, timeframe, first, last, sessions, filled_at in (
            ("MSFT", "1d", 4, 5, 2, None),
            ("AAPL", "1m", 4, 4, 1, None),
            ("AAPL", "1m", 6, 8, 3, None),
            ("AAPL", "1d", 6, 8, 3, NOW),
        ):
            connection.execute(
                """insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts,
                     first_seen, filled, filled_at)
                   values (%s, %s, %s, %s, %s, 'not_fetched', false, 0, now(), %s, %s)""",
                [
                    symbol,
                    timeframe,
                    date(2024, 3, first),
                    date(2024, 3, last),
                    sessions,
                    filled_at is not None,
                    filled_at,
                ],
            )
    assert rows(database_url, QUERIES[GAPS]) == [
        ("AAPL", "1m", 2, 4, date(2024, 3, 4), date(2024, 3, 8)),
        ("MSFT", "1d", 1, 2, date(2024, 3, 4), date(2024, 3, 5)),
    ]


def test_newest_bars_and_records_of_what_the_store_wrote(stored):
    records = same_by_reading(stored)
    newest = {(symbol, timeframe): stamp for symbol, timeframe, stamp in rows(stored, QUERIES[NEWEST])}
    assert newest["AAPL", "1d"] == datetime(2024, 3, 8, tzinfo=NEW_YORK)
    assert newest["MSFT", "1d"] == datetime(2024, 3, 7, tzinfo=NEW_YORK)
    assert ("AAPL", "1w") in newest
    assert ("MSFT", "1w") not in newest
    assert records["AAPL"] > records["MSFT"] > 0


def test_an_empty_table_has_no_rows(database_url):
    assert [rows(database_url, query) for query in QUERIES.values()] == [[], [], []]


def test_bars_that_stand_already_or_change_are_counted_once(stored):
    before = same_by_reading(stored)
    with psycopg.connect(stored) as connection:
        connection.execute("create temp table again on commit drop as select * from market_data")
        connection.execute("insert into market_data select * from again on conflict do nothing")
        connection.execute("update market_data set close = close + 1 where timeframe = '1d'")
    assert same_by_reading(stored) == before


def test_what_is_rolled_back_is_not_counted(stored):
    before = same_by_reading(stored)
    with psycopg.connect(stored) as connection:
        connection.execute(INSERT, [["NEW"], ["1m"], 1, 9])
        connection.execute("delete from market_data where symbol = 'AAPL'")
        connection.rollback()
    assert same_by_reading(stored) == before


def test_deleted_bars_and_series_that_became_empty_are_not_counted(stored):
    with psycopg.connect(stored) as connection:
        connection.execute("delete from market_data where symbol = 'AAPL' or timeframe = '1m'")
    assert list(same_by_reading(stored)) == ["MSFT"]
    with psycopg.connect(stored) as connection:
        connection.execute("truncate market_data")
    assert same_by_reading(stored) == {}


def test_a_series_that_is_renamed_takes_its_bars_along(stored):
    before = same_by_reading(stored)
    with psycopg.connect(stored) as connection:
        connection.execute("update market_data set symbol = 'META' where symbol = 'AAPL'")
    assert same_by_reading(stored) == {"META": before["AAPL"], "MSFT": before["MSFT"]}


def test_the_migration_counts_what_is_there_and_can_be_undone(stored):
    before = same_by_reading(stored)
    migrate(stored, command.downgrade, "0008")
    with psycopg.connect(stored) as connection:
        connection.execute(INSERT, [["AAPL"], ["2m"], 1, 9])
    schema.upgrade(stored)
    assert same_by_reading(stored) == before | {"AAPL": before["AAPL"] + 9}


SUBSETS = st.lists(st.sampled_from(["A", "B"]), unique=True), st.lists(st.sampled_from(["1m", "1d"]), unique=True)
CHANGES = st.lists(st.tuples(st.booleans(), *SUBSETS, st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6)


@given(CHANGES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_equal_the_table_after_any_inserts_and_deletes(database_url, changes):
    stamps = set()
    start = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
    with psycopg.connect(database_url) as connection:
        connection.execute("truncate market_data")
        for adds, symbols, timeframes, first, last in changes:
            touched = {
                (s, t, start + timedelta(minutes=n))
                for s, t, n in itertools.product(symbols, timeframes, range(first, last + 1))
            }
            if adds:
                connection.execute(INSERT, [symbols, timeframes, first, last])
                stamps |= touched
            else:
                connection.execute(
                    DELETE,
                    [symbols, timeframes, start + timedelta(minutes=first), start + timedelta(minutes=last)],
                )
                stamps -= touched
    assert same_by_reading(database_url) == dict(Counter(symbol for symbol, _, _ in stamps))
