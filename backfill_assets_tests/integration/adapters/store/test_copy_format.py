"""The binary encodings of bars and features, compared with psycopg's and PostgreSQL's own."""

import dataclasses

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store import copy_format
from backfill_assets.adapters.store.copy_format import bars_of_block, copy_block, feature_blocks
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets_tests.postgres import database_copy

SQL, FEATURES = (statements("backfill_assets.adapters.store", file) for file in ("bars.sql", "features.sql"))
READ = "select (extract(epoch from t) * 1000)::int8, o, h, l, c, v, vw, n from stage order by t"
# PostgreSQL's timestamps range from 4714 BC to AD 294276.
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
        # to the last bit, with the sign of zero; PostgreSQL has only one NaN
        same = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
        assert same.all(), field.name


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(row, max_size=20, unique_by=lambda r: r[0]))
def test_bars_round_trip(connection, found):
    written = bars(sorted(found))
    identical(round_trip(connection, written), written)


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), 0.1 + 0.2, 2.0**53 + 2])
def test_extreme_numbers_round_trip(connection, value):
    written = bars([(1_709_562_600_000, *[value] * 6, 2**63 - 1)])
    identical(round_trip(connection, written), written)


@pytest.mark.parametrize("moment", [FIRST_MS, -1, 0, 946_684_799_999, 946_684_800_000, 1_710_054_000_000, LAST_MS])
def test_extreme_times_round_trip(connection, moment):
    written = bars([(moment, *[1.0] * 6, 0)])
    identical(round_trip(connection, written), written)


def test_texts_are_in_every_row(connection):
    connection.execute(
        """create temp table labelled (a text, b text, t timestamptz, o float8, h float8, l float8, c float8, v float8,
           vw float8, n int8) on commit drop"""
    )
    with connection.cursor() as cursor, cursor.copy("copy labelled from stdin (format binary)") as copy:
        copy.write(copy_block(bars([(i, *[1.0] * 6, i) for i in range(3)]), ("BRK.B", "naïve ¥")))
    found = connection.execute("select a, b, n, o from labelled order by n").fetchall()
    connection.commit()
    assert found == [("BRK.B", "naïve ¥", i, 1.0) for i in range(3)]


maybe_missing = st.tuples(st.floats(allow_nan=False) | st.just(float("nan")), st.just(-1) | st.integers(0, 2**63 - 1))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(maybe_missing, max_size=20))
def test_missing_values_are_null_in_the_table(database_url, found):
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


def test_strided_columns_of_bars_round_trip(connection):
    series = bars([(i, *[float(i)] * 6, i) for i in range(10)])
    identical(round_trip(connection, series.take(slice(None, None, 3))), series.take(np.array([0, 3, 6, 9])))


# --- Features

COLUMNS = 5

moments = st.integers(FIRST_MS, LAST_MS)
symbols = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def features(postgres_server):
    with psycopg.connect(postgres_server, autocommit=True) as opened:
        opened.execute(
            "create temp table features (n int generated always as identity, a text, b text, t timestamptz, "
            + ", ".join(f"f{i} float8" for i in range(COLUMNS))
            + ")"
        )
        yield opened


def send(features, texts, stamps, values):
    """Copy rows into the empty table and read them back as (a, b, milliseconds, values …)."""
    features.execute("truncate features")
    names = ", ".join(f"f{i}" for i in range(COLUMNS))
    with features.cursor() as cursor, cursor.copy(f"copy features (a, b, t, {names}) from stdin (format binary)") as c:
        for block in feature_blocks(texts, np.array(stamps, np.int64), values):
            c.write(block)
    query = f"select a, b, (extract(epoch from t) * 1000)::int8, {names} from features order by n"  # noqa: S608  # names above
    return {binary: features.cursor(binary=binary).execute(query).fetchall() for binary in (False, True)}


def expected(texts, stamps, values):
    """The rows that must be read back: None for NaN, other numbers to the last bit."""
    return [
        (*texts, stamp, *(None if np.isnan(v) else v for v in row))
        for stamp, row in zip(stamps, values.tolist(), strict=True)
    ]


@settings(max_examples=60)
@given(st.data(), symbols, symbols, st.integers(0, 12), st.sampled_from([1, 4, 5, 1024]))
def test_features_round_trip(features, data, one, other, rows, block):
    stamps = data.draw(st.lists(moments, min_size=rows, max_size=rows))
    values = data.draw(arrays.arrays(np.float64, (rows, COLUMNS), elements=st.floats()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(copy_format, "_BLOCK", block)
        found = send(features, (one, other), stamps, values)
    wanted = expected((one, other), stamps, values)
    assert found[False] == found[True] == wanted
    signs = [[np.copysign(1, v) for v in row[3:] if v is not None] for row in wanted]
    assert [[np.copysign(1, v) for v in row[3:] if v is not None] for row in found[True]] == signs


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_many_rows_with_and_without_nulls(features, order, share):
    random = np.random.default_rng(1)
    values = random.normal(size=(2 * copy_format._BLOCK + 7, COLUMNS))
    values[random.random(values.shape) < share] = np.nan
    stamps = (1_709_562_600_000 + 60_000 * np.arange(len(values))).tolist()
    found = send(features, ("BRK.B", "1m"), stamps, np.asarray(values, order=order))
    assert found[True] == expected(("BRK.B", "1m"), stamps, values)


def test_blocks_are_not_changed_afterwards():
    values = np.arange(4.0 * copy_format._BLOCK).reshape(-1, 2)
    stamps = np.arange(len(values))
    one_by_one = b"".join([bytes(block) for block in feature_blocks(("A",), stamps, values)])
    assert b"".join(list(feature_blocks(("A",), stamps, values))) == one_by_one


def test_strided_features_round_trip(features):
    wide = np.arange(20.0 * COLUMNS).reshape(10, -1)[::2, ::2]
    stamps = np.arange(20)[::4]
    assert send(features, ("A", "B"), stamps, wide)[True] == expected(("A", "B"), stamps.tolist(), wide)


# --- Bars


bar = st.tuples(moments, *[st.floats(allow_nan=False)] * 5)


def stored(url, rows):
    """Write rows (in order) to the table of bars and read them by the store's statement."""
    stamp, *floats = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.empty(0)] * 6
    columns = [stamp.astype(np.int64), *floats, np.ones(len(rows)), np.ones(len(rows), np.int64)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("truncate market_data")
        with connection.cursor() as cursor, cursor.copy(SQL["copy_bars"]) as copy:
            copy.write(copy_block(Bars(*columns), ("A", "1d", "test")))
        everything = {"symbol": "A", "timeframe": "1d", "end": "infinity"}
        (block,) = connection.cursor(binary=True).execute(FEATURES["bars_until"], everything).fetchone()
        return bars_of_block(block or b"")


@settings(max_examples=25)
@given(st.lists(bar, max_size=20, unique_by=lambda row: row[0]).map(sorted))
def test_stored_bars_are_decoded_in_order(bars_url, rows):
    found = stored(bars_url, rows)
    columns = [getattr(found, f.name) for f in dataclasses.fields(Bars)]
    assert [c.dtype for c in columns] == [np.int64, *[np.float64] * 6, np.int64]
    assert list(zip(*(c.tolist() for c in columns[:6]), strict=True)) == rows
    assert np.isnan(found.vwap).all()
    assert (found.trades == NO_TRADES).all()
    assert all(c.flags.writeable for c in columns)


@pytest.fixture(scope="module")
def bars_url(postgres_server, postgres_template):
    """One database for all examples."""
    with database_copy(postgres_server, postgres_template) as url:
        yield url
