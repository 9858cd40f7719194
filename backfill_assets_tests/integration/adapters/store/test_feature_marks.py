"""What a change reaches: exactly the rows whose values can depend on it."""

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.adapters.store.feature_marks import mark_after, mark_rows
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.features import LOOK_BACK
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import TIMEFRAMES

SQL = statements("backfill_assets.adapters.store", "bars.sql")
NEW_YORK, UTC_DAYS = ZoneInfo("America/New_York"), ZoneInfo("UTC")
START = datetime(2024, 3, 8, tzinfo=NEW_YORK)  # a Friday; clocks go forward on the Sunday
MARKED = """select "timestamp" from market_data m
  where symbol = %s and timeframe = %s and exists (
    select from feature_marks f where f.symbol = m.symbol and f.timeframe = m.timeframe and f.stale @> m."timestamp")
  order by 1"""


@pytest.fixture
def connection(database_url):
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def put(connection, stamps, timeframe="1m", symbol="AAPL"):
    """Bars that begin at these milliseconds, without a mark."""
    ones = [np.ones(len(stamps))] * 6
    bars = Bars(np.asarray(stamps, np.int64), *ones, np.ones(len(stamps), np.int64))
    with connection.cursor() as cursor, cursor.copy(SQL["copy_bars"]) as copy:
        copy.write(copy_block(bars, (symbol, timeframe, "test")))
    connection.execute("insert into coverage values (%s, %s, '{[2024-01-01,2025-01-01)}')", [symbol, timeframe])


def marked(connection, timeframe="1m", symbol="AAPL"):
    """The bars (milliseconds) whose rows stand marked."""
    found = connection.execute(MARKED, [symbol, timeframe]).fetchall()
    return [int(at.timestamp()) * 1000 for (at,) in found]


@contextmanager
def forgotten(connection):
    """Whatever happens within is undone."""
    with connection.transaction(force_rollback=True):
        yield


def thin_minutes(days, share, seed):
    """Starts of minutes around the clock, without a random share of them."""
    every = int(START.timestamp()) * 1000 + 60_000 * np.arange(days * 1440, dtype=np.int64)
    return every[np.random.default_rng(seed).random(len(every)) >= share]


def sessions_of(stamps, zone):
    return np.array([datetime.fromtimestamp(ms / 1000, zone).toordinal() for ms in stamps.tolist()])


# --- Bars


SUITABLE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SUITABLE
@given(
    zone=st.sampled_from([NEW_YORK, UTC_DAYS]),
    share=st.sampled_from([0.0, 0.3, 0.6, 0.9]),
    seed=st.integers(0, 99),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30)), min_size=1, max_size=3),
)
def test_a_changed_bar_reaches_the_look_back_after_it_and_its_session_and_nothing_else(
    connection, zone, share, seed, changes
):
    stamps = thin_minutes(4, share, seed)
    pairs = [
        (at, min(at + length, len(stamps) - 1))
        for at, length in ((int(part * (len(stamps) - 1)), length) for part, length in changes)
    ]
    rows, session = np.arange(len(stamps)), sessions_of(stamps, zone)
    reached = np.zeros(len(stamps), bool)
    for first, last in pairs:
        reached |= (rows >= first) & ((rows <= last + LOOK_BACK) | (session == session[last]))
    with forgotten(connection):
        put(connection, stamps)
        first, last = ([instant(stamps[row]) for row in column] for column in zip(*pairs, strict=True))
        mark_rows(connection, "AAPL", "1m", first, last, zone)
        assert marked(connection) == stamps[reached].tolist()


@SUITABLE
@given(share=st.sampled_from([0.0, 0.5]), at=st.floats(0, 1))
def test_without_a_zone_a_session_may_last_25_hours(connection, share, at):
    stamps = thin_minutes(4, share, 1)
    row = int(at * (len(stamps) - 1))
    until = np.maximum(stamps[min(row + LOOK_BACK, len(stamps) - 1)], stamps[row] + 25 * 3_600_000 - 1)
    with forgotten(connection):
        put(connection, stamps)
        mark_rows(connection, "AAPL", "1m", [instant(stamps[row])], [instant(stamps[row])])
        assert marked(connection) == stamps[(stamps >= stamps[row]) & (stamps <= until)].tolist()


@pytest.mark.parametrize("timeframe", [t for t in TIMEFRAMES if t != "1m"])
def test_coarser_bars_reach_as_many_and_days_and_weeks_everything_after_them(connection, timeframe):
    stamps = int(START.timestamp()) * 1000 + 1000 * TIMEFRAMES[timeframe].seconds * np.arange(1500, dtype=np.int64)
    put(connection, stamps, timeframe)
    mark_rows(connection, "AAPL", timeframe, [instant(stamps[300])], [instant(stamps[300])], NEW_YORK)
    reached = None if timeframe in {"1d", "1w"} else 300 + LOOK_BACK + 1
    assert marked(connection, timeframe) == stamps[300:reached].tolist()


def test_bars_that_come_later_within_the_reach_of_the_last_are_marked_too(connection):
    stamps = thin_minutes(2, 0.0, 0)
    put(connection, stamps[:100])
    mark_rows(connection, "AAPL", "1m", [instant(stamps[50])], [instant(stamps[50])], NEW_YORK)
    assert connection.execute("select upper_inf(stale) from feature_marks").fetchall() == [(True,)]


def test_each_stretch_has_its_own_mark_and_other_series_have_none(connection):
    stamps = thin_minutes(4, 0.0, 0)
    for symbol, timeframe in (("AAPL", "1m"), ("AAPL", "5m"), ("MSFT", "1m")):
        put(connection, stamps, timeframe, symbol)
    first, last = [instant(stamps[n]) for n in (0, 3000)], [instant(stamps[n]) for n in (5, 3005)]
    mark_rows(connection, "AAPL", "1m", first, last, UTC_DAYS)
    assert connection.execute("select symbol, timeframe from feature_marks").fetchall() == [("AAPL", "1m")] * 2
    assert connection.execute("select lower(stale) from feature_marks order by 1").fetchall() == [(f,) for f in first]


def test_what_is_rolled_back_marks_nothing(connection):
    stamps = thin_minutes(1, 0.0, 0)
    put(connection, stamps)
    with forgotten(connection):
        mark_rows(connection, "AAPL", "1m", [instant(stamps[0])], [instant(stamps[0])], NEW_YORK)
        assert marked(connection)
    assert not marked(connection)


# --- Days and their weeks


YEAR = list(DayRange(date(2024, 1, 1), date(2024, 12, 31)))
SUNDAYS = sorted({week_start(day) for day in YEAR})


@pytest.mark.parametrize("zone", [NEW_YORK, UTC_DAYS])
def test_a_day_reaches_its_own_week_and_those_after(connection, zone):
    weeks = day_starts(SUNDAYS, zone)
    put(connection, weeks, "1w")
    for day in YEAR:
        with forgotten(connection):
            at = instant(day_starts([day], zone)[0])
            mark_rows(connection, "AAPL", "1d", [at], [at], zone)
            assert marked(connection, "1w") == weeks[SUNDAYS.index(week_start(day)) :].tolist(), day


def test_minutes_reach_no_week_and_days_none_where_none_are_stored(connection):
    at = [instant(thin_minutes(1, 0.0, 0)[0])]
    mark_rows(connection, "MSFT", "1d", at, at, NEW_YORK)
    put(connection, day_starts(SUNDAYS, NEW_YORK), "1w")
    mark_rows(connection, "AAPL", "1m", at, at, NEW_YORK)
    assert connection.execute("select timeframe from feature_marks where timeframe = '1w'").fetchall() == []


# --- Splits


@SUITABLE
@given(share=st.sampled_from([0.0, 0.6, 0.95]), seed=st.integers(0, 99), day=st.integers(-1, 4))
def test_a_split_reaches_the_look_back_from_its_day_on(connection, share, seed, day):
    stamps = thin_minutes(4, share, seed)
    at = START + timedelta(days=day)  # midnight in New York, whatever clocks do
    from_it = stamps[stamps >= int(at.timestamp()) * 1000]
    with forgotten(connection):
        put(connection, stamps)
        mark_after(connection, "AAPL", at.astimezone(UTC))
        assert marked(connection) == from_it[:LOOK_BACK].tolist()


@pytest.mark.parametrize("zone", [NEW_YORK, UTC_DAYS])
def test_a_split_reaches_its_own_week_and_those_after(connection, zone):
    weeks, days = day_starts(SUNDAYS, zone), day_starts(YEAR, zone)
    put(connection, weeks, "1w")
    put(connection, days, "1d")
    for number, day in enumerate(YEAR):
        with forgotten(connection):
            mark_after(connection, "AAPL", instant(days[number]))
            assert marked(connection, "1w") == weeks[SUNDAYS.index(week_start(day)) :].tolist(), day
            assert marked(connection, "1d") == days[number:].tolist(), day


def test_a_split_reaches_every_series_of_its_symbol_and_of_no_other(connection):
    stamps = day_starts(YEAR, NEW_YORK)
    for timeframe in TIMEFRAMES:
        for symbol in ("AAPL", "MSFT"):
            put(connection, stamps, timeframe, symbol)
    connection.execute("insert into coverage values ('AAPL', '2m', '{}')")
    mark_after(connection, "AAPL", instant(stamps[100]))
    found = connection.execute("select symbol, timeframe from feature_marks").fetchall()
    assert sorted(found) == sorted(("AAPL", timeframe) for timeframe in TIMEFRAMES)
