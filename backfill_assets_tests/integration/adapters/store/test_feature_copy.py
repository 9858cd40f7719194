"""The byte layouts of features and bars, against what psycopg itself reads and PostgreSQL itself writes."""

import dataclasses

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store import feature_copy
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.adapters.store.feature_copy import bars_of_block, feature_blocks
from backfill_assets.domain.bars import NO_TRADES, Bars

SQL, BARS = (statements("backfill_assets.adapters.store", file) for file in ("features.sql", "bars.sql"))
# PostgreSQL's timestamps reach from 4714 BC to AD 294276.
FIRST_MS, LAST_MS = -210_866_803_200_000, 9_224_318_015_999_999
COLUMNS = 5
NAN = float("nan")

moments = st.integers(FIRST_MS, LAST_MS)
numbers = st.floats(allow_nan=True)
symbols = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def connection(postgres_server):
    with psycopg.connect(postgres_server, autocommit=True) as opened:
        opened.execute(
            "create temp table features (n int generated always as identity, a text, b text, t timestamptz, "
            + ", ".join(f"f{i} float8" for i in range(COLUMNS))
            + ")"
        )
        yield opened


def send(connection, texts, stamps, values):
    """Copy the rows into the empty table, and read them back as (a, b, milliseconds, values …)."""
    connection.execute("truncate features")
    names = ", ".join(f"f{i}" for i in range(COLUMNS))
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy features (a, b, t, {names}) from stdin (format binary)") as c,
    ):
        for block in feature_blocks(texts, np.array(stamps, np.int64), values):
            c.write(block)
    query = f"select a, b, (extract(epoch from t) * 1000)::int8, {names} from features order by n"  # noqa: S608  # names above
    return {binary: connection.cursor(binary=binary).execute(query).fetchall() for binary in (False, True)}


def expected(texts, stamps, values):
    """The rows as they have to come back: None for NaN, every other number to the last bit."""
    return [
        (*texts, stamp, *(None if np.isnan(v) else v for v in row))
        for stamp, row in zip(stamps, values.tolist(), strict=True)
    ]


@settings(max_examples=60)
@given(st.data(), symbols, symbols, st.integers(0, 12), st.sampled_from([1, 4, 5, 1024]))
def test_every_value_arrives_as_it_left(connection, data, one, other, rows, at_once):
    stamps = data.draw(st.lists(moments, min_size=rows, max_size=rows))
    values = data.draw(arrays.arrays(np.float64, (rows, COLUMNS), elements=numbers))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feature_copy, "_AT_ONCE", at_once)
        found = send(connection, (one, other), stamps, values)
    wanted = expected((one, other), stamps, values)
    assert found[False] == found[True] == wanted
    signs = [[np.copysign(1, v) for v in row[3:] if v is not None] for row in wanted]
    assert [[np.copysign(1, v) for v in row[3:] if v is not None] for row in found[True]] == signs


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_many_rows_with_and_without_nulls(connection, order, share):
    chance = np.random.default_rng(1)
    values = chance.normal(size=(2 * feature_copy._AT_ONCE + 7, COLUMNS))
    values[chance.random(values.shape) < share] = np.nan
    stamps = (1_709_562_600_000 + 60_000 * np.arange(len(values))).tolist()
    found = send(connection, ("BRK.B", "1m"), stamps, np.asarray(values, order=order))
    assert found[True] == expected(("BRK.B", "1m"), stamps, values)


def test_no_rows_are_data_too(connection):
    found = send(connection, ("AAPL", "1m"), [], np.empty((0, COLUMNS)))
    assert found == {False: [], True: []}


def test_the_warm_up_of_a_series_is_null_and_the_rest_is_not(connection):
    values = np.arange(3000.0 * COLUMNS).reshape(3000, COLUMNS)
    for column in range(COLUMNS):
        values[: 15 * column, column] = np.nan
    found = send(connection, ("AAPL", "1m"), range(0, 3000 * 60_000, 60_000), values)[True]
    assert [sum(row[3 + c] is None for row in found) for c in range(COLUMNS)] == [15 * c for c in range(COLUMNS)]
    assert found[-1][3:] == tuple(values[-1])


def test_what_was_encoded_is_not_changed_afterwards():
    values = np.arange(4.0 * feature_copy._AT_ONCE).reshape(-1, 2)
    stamps = np.arange(len(values))
    one_by_one = b"".join([bytes(block) for block in feature_blocks(("A",), stamps, values)])
    assert b"".join(list(feature_blocks(("A",), stamps, values))) == one_by_one


def test_columns_with_strides_arrive(connection):
    wide = np.arange(20.0 * COLUMNS).reshape(10, -1)[::2, ::2]
    stamps = np.arange(20)[::4]
    assert send(connection, ("A", "B"), stamps, wide)[True] == expected(("A", "B"), stamps.tolist(), wide)


# --- Bars


bar = st.tuples(moments, *[st.floats(allow_nan=False)] * 5)


def stored(url, rows):
    """Rows (in order) in the bars' table, read back through the store's own statement."""
    stamp, *floats = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.empty(0)] * 6
    columns = [stamp.astype(np.int64), *floats, np.ones(len(rows)), np.ones(len(rows), np.int64)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("truncate market_data")
        with connection.cursor() as cursor, cursor.copy(BARS["copy_bars"]) as copy:
            copy.write(copy_block(Bars(*columns), ("A", "1d", "test")))
        everything = {"symbol": "A", "timeframe": "1d", "end": "infinity"}
        (block,) = connection.cursor(binary=True).execute(SQL["bars_until"], everything).fetchone()
        return bars_of_block(block or b"")


@settings(max_examples=25)
@given(st.lists(bar, max_size=20, unique_by=lambda row: row[0]).map(sorted))
def test_stored_bars_come_as_they_are_and_in_order(bars_url, rows):
    found = stored(bars_url, rows)
    columns = [getattr(found, f.name) for f in dataclasses.fields(Bars)]
    assert [c.dtype for c in columns] == [np.int64, *[np.float64] * 6, np.int64]
    assert list(zip(*(c.tolist() for c in columns[:6]), strict=True)) == rows
    assert np.isnan(found.vwap).all()
    assert (found.trades == NO_TRADES).all()
    assert all(c.flags.writeable for c in columns)


@pytest.fixture(scope="module")
def bars_url(postgres_server, postgres_template):
    """One database for all examples of this module."""
    name = f"{postgres_template}_bars"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"create database {name} template {postgres_template} strategy file_copy")
        try:
            yield psycopg.conninfo.make_conninfo(postgres_server, dbname=name)
        finally:
            server.execute(f"drop database {name} with (force)")
