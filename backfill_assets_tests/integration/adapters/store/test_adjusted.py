"""Bars read in the shares of a day: the SQL functions and the view, against the same computed here."""

import math
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.adjustments import SplitRatio, factors
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets_tests.support import rows

NEW_YORK = HOURS[Kind.STOCKS].zone
BEGIN, SPAN = date(2024, 2, 25), 30  # the days around a change of clocks
RAW = (100.0, 102.0, 99.0, 101.0, 5000.0, 100.5)


def add_split(connection, symbol, day, old, new, *, withdrawn=False):
    connection.execute(
        """insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at, withdrawn_at)
           values (%s, 'split', %s, %s, %s, now(), now(), case when %s then now() end) on conflict do nothing""",
        [symbol, day, old, new, withdrawn],
    )


def add_bar(connection, symbol, at, timeframe="1m"):
    connection.execute(
        """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
           values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 7, 'polygon') on conflict do nothing""",
        [symbol, timeframe, at, *RAW],
    )


def factor(splits, day, as_of):
    acting = {(d, Fraction(new) / Fraction(old)): (old, new) for d, old, new, withdrawn in splits if not withdrawn}
    product = Fraction(1)
    for (ex_date, _), (old, new) in acting.items():
        if day < ex_date <= as_of:
            product *= Fraction(old) / Fraction(new)
    return float(product)


def adjusted(by):
    return [*(price * by for price in RAW[:4]), RAW[4] / by, RAW[5] * by]


DAYS = st.integers(0, SPAN).map(lambda n: BEGIN + timedelta(days=n))
INSTANTS = st.one_of(
    st.integers(0, SPAN * 24 * 60).map(lambda m: datetime(2024, 2, 25, 5, tzinfo=UTC) + timedelta(minutes=m)),
    DAYS.map(lambda d: datetime.combine(d, datetime.min.time(), NEW_YORK)),
    DAYS.map(lambda d: datetime.combine(d, datetime.min.time(), NEW_YORK) - timedelta(minutes=1)),
)
RATIOS = st.sampled_from([(1, 2), (1, 10), (2, 3), (8, 1), (1, 1.05), (100, 105), (3, 2), (20, 40)])
# one state of withdrawal a ratio, as the table's key has it
SPLITS = st.lists(st.tuples(DAYS, RATIOS, st.booleans()), max_size=5).map(
    lambda found: [
        (d, float(old), float(new), gone)
        for (d, _), (old, new, gone) in {
            (d, new / old): (old, new, gone) for d, (old, new), gone in reversed(found)
        }.items()
    ]
)


@given(splits=SPLITS, others=SPLITS, instants=st.sets(INSTANTS, min_size=1, max_size=8), as_of=DAYS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_functions_and_view_are_what_the_definition_says(database_url, splits, others, instants, as_of):
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from corporate_events")
        connection.execute("delete from market_data")
        for symbol, its in (("NVDA", splits), ("AAPL", others)):
            for split in its:
                add_split(connection, symbol, *split[:3], withdrawn=split[3])
            for at in instants:
                add_bar(connection, symbol, at)
        connection.execute("set timezone to 'Asia/Tokyo'")
        then = "select symbol, timestamp, open, high, low, close, volume, vwap from market_data_as_of(%s) order by 1, 2"
        today = "select symbol, timestamp, open, high, low, close, volume, vwap from market_data_adjusted order by 1, 2"
        seen_then, seen_today = connection.execute(then, [as_of]).fetchall(), connection.execute(today).fetchall()
        for found, day_of_reading in ((seen_then, as_of), (seen_today, date(2025, 1, 1))):
            assert [(s, t) for s, t, *_ in found] == [(s, t) for s in ("AAPL", "NVDA") for t in sorted(instants)]
            for symbol, at, *values in found:
                by = factor(splits if symbol == "NVDA" else others, at.astimezone(NEW_YORK).date(), day_of_reading)
                assert values == pytest.approx(adjusted(by), rel=1e-12)
        for at in instants:
            day = at.astimezone(NEW_YORK).date()
            ((by,),) = connection.execute("select split_factor('NVDA', %s, %s)", [day, as_of]).fetchall()
            assert by == pytest.approx(factor(splits, day, as_of), rel=1e-12)


@given(splits=SPLITS, instants=st.sets(INSTANTS, min_size=1, max_size=8), as_of=DAYS)
def test_what_python_computes_features_with_is_the_same(splits, instants, as_of):
    """The arithmetic of `domain.adjustments`, of bars up to the day from which they are seen."""
    acting = [SplitRatio(day, old, new) for day, old, new, withdrawn in splits if not withdrawn]
    there = sorted(at for at in instants if at.astimezone(NEW_YORK).date() <= as_of)
    stamps = np.array([int(at.timestamp() * 1000) for at in there], np.int64)
    noon = int(datetime.combine(as_of, datetime.min.time(), NEW_YORK).timestamp() * 1000) + 12 * 3_600_000
    expected = [factor(splits, at.astimezone(NEW_YORK).date(), as_of) for at in there]
    assert factors(stamps, acting, noon, MINUTE_1, NEW_YORK).tolist() == pytest.approx(expected, rel=1e-12)


def test_bars_without_splits_are_the_same_to_the_last_bit_and_so_are_the_other_columns(database_url):
    with psycopg.connect(database_url) as connection:
        add_bar(connection, "AAPL", datetime(2024, 3, 4, 15, tzinfo=UTC))
        add_bar(connection, "BTC", datetime(2024, 3, 4, tzinfo=UTC))
        add_split(connection, "NVDA", date(2024, 6, 10), 1, 10)
    everything = "select * from {} order by symbol"
    raw = rows(database_url, everything.format("market_data"))
    assert rows(database_url, everything.format("market_data_adjusted")) == raw
    assert rows(database_url, everything.format("market_data_as_of('2024-12-31')")) == raw


def test_what_is_null_stays_null(database_url):
    with psycopg.connect(database_url) as connection:
        add_bar(connection, "NVDA", datetime(2024, 3, 4, 15, tzinfo=UTC))
        connection.execute("update market_data set vwap = null, trades = null")
        add_split(connection, "NVDA", date(2024, 6, 10), 1, 10)
    assert rows(database_url, "select open, vwap, trades from market_data_adjusted") == [(10.0, None, None)]
    assert rows(database_url, "select split_factor('NVDA', '2024-03-04', null)") == [(None,)]


def test_a_split_to_come_acts_from_its_day_on(database_url):
    with psycopg.connect(database_url) as connection:
        add_bar(connection, "NVDA", datetime(2024, 3, 4, 15, tzinfo=UTC))
        add_split(connection, "NVDA", date(2999, 1, 2), 1, 10)
    assert rows(database_url, "select open from market_data_adjusted") == [(100.0,)]
    assert rows(database_url, "select open from market_data_as_of('2999-01-01')") == [(100.0,)]
    assert rows(database_url, "select open from market_data_as_of('2999-01-02')") == [(10.0,)]


def test_a_weekly_bar_goes_by_its_sunday(database_url):
    sunday = datetime(2024, 6, 9, tzinfo=NEW_YORK)
    with psycopg.connect(database_url) as connection:
        for week in (-1, 0, 1):
            add_bar(connection, "NVDA", sunday + timedelta(weeks=week), "1w")
        add_split(connection, "NVDA", date(2024, 6, 12), 1, 10)
    assert rows(database_url, "select open from market_data_adjusted order by timestamp") == [
        (10.0,),
        (10.0,),
        (100.0,),
    ]


def test_the_product_of_many_splits_is_exact_to_the_last_digits(database_url):
    with psycopg.connect(database_url) as connection:
        for n in range(30):
            add_split(connection, "NVDA", date(2024, 1, 2) + timedelta(days=n), *((2, 3) if n % 2 else (3, 2)))
    ((by,),) = rows(database_url, "select split_factor('NVDA', '2024-01-01', '2024-12-31')")
    assert math.isclose(by, 1.0, rel_tol=1e-15)


def test_a_readers_search_path_does_not_matter(database_url):
    with psycopg.connect(database_url) as connection:
        add_bar(connection, "NVDA", datetime(2024, 3, 4, 15, tzinfo=UTC))
        add_split(connection, "NVDA", date(2024, 6, 10), 1, 10)
        connection.execute("set search_path to ''")
        for ask in (
            "select open from public.market_data_adjusted",
            "select open from public.market_data_total_return",
            "select open from public.market_data_as_of('2024-12-31')",
        ):
            assert connection.execute(ask).fetchall() == [(10.0,)]
        assert connection.execute("select public.split_factor('NVDA', '2024-03-04', '2024-12-31')").fetchone() == (0.1,)


@pytest.mark.parametrize(
    "source", ["market_data_adjusted", "market_data_as_of('2024-12-31')", "market_data_total_return"]
)
def test_reading_joins_the_few_splits_and_calls_no_function_a_bar(database_url, source):
    with psycopg.connect(database_url) as connection:
        for minute in range(3000):
            add_bar(connection, "NVDA", datetime(2024, 3, 4, tzinfo=UTC) + timedelta(minutes=minute))
        add_split(connection, "NVDA", date(2024, 6, 10), 1, 10)
        connection.execute("analyze market_data")
        ask = "explain select * from {} where symbol = 'NVDA' and timeframe = '1m' order by timestamp desc limit 5"
        plan = "\n".join(line for (line,) in connection.execute(ask.format(source)).fetchall())
    assert "Index Scan Backward using market_data_pkey" in plan
    assert "Function Scan" not in plan
