import dataclasses

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.domain.bars import Bars

SQL = statements("backfill_assets.adapters.store", "bars.sql")
FLOATS = ("open", "high", "low", "close", "volume", "vwap")
READ = "select (extract(epoch from t) * 1000)::int8, o, h, l, c, v, vw, n from stage order by t"
# PostgreSQL's timestamps reach from 4714 BC to AD 294276.
FIRST_MS, LAST_MS = -210_866_803_200_000, 9_224_318_015_999_999

numbers = st.floats(allow_nan=False)
row = st.tuples(st.integers(FIRST_MS, LAST_MS), *[numbers] * 5, st.floats(), st.integers(-(2**63), 2**63 - 1))


@pytest.fixture(scope="module")
def connection(postgres_server):
    with psycopg.connect(postgres_server) as opened:
        yield opened


def bars(found):
    columns = list(zip(*found, strict=True)) or [()] * 8
    return Bars(*(np.array(c, np.int64 if i in (0, 7) else np.float64) for i, c in enumerate(columns)))


def round_trip(connection, written):
    connection.execute(SQL["make_stage"])
    with connection.cursor() as cursor, cursor.copy(SQL["copy_stage"]) as copy:
        copy.write(copy_block(written))
    found = bars(connection.execute(READ).fetchall())
    connection.commit()  # empties the stage
    return found


def identical(one, other):
    for field in dataclasses.fields(Bars):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a.dtype == b.dtype
        # to the last bit, the sign of zero included; PostgreSQL knows one NaN only
        same = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
        assert same.all(), field.name


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(row, max_size=20, unique_by=lambda r: r[0]))
def test_every_value_arrives_as_it_left(connection, found):
    written = bars(sorted(found))
    identical(round_trip(connection, written), written)


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), 0.1 + 0.2, 2.0**53 + 2])
def test_extreme_numbers_arrive(connection, value):
    written = bars([(1_709_562_600_000, *[value] * 6, 2**63 - 1)])
    identical(round_trip(connection, written), written)


@pytest.mark.parametrize("moment", [FIRST_MS, -1, 0, 946_684_799_999, 946_684_800_000, 1_710_054_000_000, LAST_MS])
def test_extreme_times_arrive(connection, moment):
    written = bars([(moment, *[1.0] * 6, 0)])
    identical(round_trip(connection, written), written)


def test_absent_values_travel_as_nan_and_minus_one(connection):
    identical(
        round_trip(connection, bars([(0, *[1.0] * 5, float("nan"), -1)])), bars([(0, *[1.0] * 5, float("nan"), -1)])
    )


def test_texts_stand_in_every_row(connection):
    connection.execute(
        """create temp table labelled (a text, b text, t timestamptz, o float8, h float8, l float8, c float8, v float8,
           vw float8, n int8) on commit drop"""
    )
    with connection.cursor() as cursor, cursor.copy("copy labelled from stdin (format binary)") as copy:
        copy.write(copy_block(bars([(i, *[1.0] * 6, i) for i in range(3)]), ("BRK.B", "naïve ¥")))
    found = connection.execute("select a, b, n, o from labelled order by n").fetchall()
    connection.commit()
    assert found == [("BRK.B", "naïve ¥", i, 1.0) for i in range(3)]


absent_or_not = st.tuples(st.floats(allow_nan=False) | st.just(float("nan")), st.just(-1) | st.integers(0, 2**63 - 1))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(absent_or_not, max_size=20))
def test_absent_values_are_null_in_the_table_and_the_others_arrive(database_url, found):
    written = bars([(i, *[i + 0.5] * 5, *values) for i, values in enumerate(found)])
    with psycopg.connect(database_url) as opened:
        with opened.cursor() as cursor, cursor.copy(SQL["copy_bars"]) as copy:
            copy.write(copy_block(written, ("BRK.B", "1m", "naïve ¥"), nulls=True))
        arrived = opened.execute(
            """select (extract(epoch from "timestamp") * 1000)::int8, open, high, low, close, volume, vwap, trades
               from market_data where (symbol, timeframe, source) = ('BRK.B', '1m', 'naïve ¥') order by 1"""
        ).fetchall()
        opened.rollback()
    expected = [(None if np.isnan(vwap) else vwap, None if trades == -1 else trades) for vwap, trades in found]
    assert arrived == [(i, *[i + 0.5] * 5, *values) for i, values in enumerate(expected)]


def test_no_rows_are_a_block_too(connection):
    assert len(round_trip(connection, Bars.empty())) == 0


def test_columns_that_are_views_with_strides_arrive(connection):
    whole = bars([(i, *[float(i)] * 6, i) for i in range(10)])
    identical(round_trip(connection, whole.take(slice(None, None, 3))), whole.take(np.array([0, 3, 6, 9])))
