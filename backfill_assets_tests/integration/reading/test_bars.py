"""Bars, features, gaps and actions as frames, against the tables and against the same computed here."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets import iterate_bars, read_bars, read_corporate_actions, read_features, read_gaps
from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.domain.errors import (
    DatabaseUnavailable,
    EmptyStore,
    NotStored,
    SchemaBehind,
    StoreError,
    UsageMistake,
)
from backfill_assets.domain.features import COLUMNS, Scaling
from backfill_assets.domain.sessions import HOURS, Kind, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.reading.connection import opened
from backfill_assets_tests.integration.reading.conftest import (
    FETCHED,
    HALF_DAY,
    HOLIDAY,
    KINDS,
    add_action,
    minutes,
    random_bars,
    write,
)
from backfill_assets_tests.postgres import public_folder, unset_variables
from backfill_assets_tests.support import rows

NEW_YORK = HOURS[Kind.STOCKS].zone
BARS = ["open", "high", "low", "close", "volume", "vwap", "trades"]
PRICES = ["open", "high", "low", "close", "vwap"]
FEATURES = [column.name for column in COLUMNS]


@pytest.fixture
def read(filled):
    """Read bars of the store into pandas, by default."""
    return lambda symbols, timeframe, *bounds, **options: read_bars(symbols, timeframe, *bounds, url=filled, **options)


def table(url, query, *values):
    """The rows of a query as columns of Python values; None for NULL."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query, values)
        names = [column.name for column in cursor.description]
        return dict(zip(names, zip(*cursor.fetchall(), strict=True), strict=False)) or dict.fromkeys(names, ())


def values(frame):
    """The columns of a frame of any engine as Python values; None for what is missing."""
    if isinstance(frame, pd.DataFrame):
        return {name: tuple(None if pd.isna(v) else v for v in frame[name].tolist()) for name in frame}
    if isinstance(frame, pl.DataFrame):
        frame = frame.with_columns(pl.col("symbol").cast(pl.String)).to_arrow()
    return {name: tuple(frame[name].to_pylist()) for name in frame.column_names}


def stored(url, timeframe, columns, symbols=tuple(KINDS), source="market_data"):
    query = f"""select symbol, timestamp, {", ".join(columns)} from {source}
                where timeframe = %s and symbol = any(%s) order by 1, 2"""  # noqa: S608  # our own names
    return table(url, query, timeframe, list(symbols))


# --- Raw


@pytest.mark.parametrize("engine", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_raw_bars_and_features_are_those_of_the_tables_to_the_last_bit(filled, read, timeframe, engine):
    assert values(read(None, timeframe, engine=engine)) == stored(filled, timeframe, BARS)
    both = stored(filled, timeframe, [*BARS, *FEATURES], source="market_data_v2")
    assert values(read(list(KINDS), timeframe, features="all", engine=engine)) == both
    if timeframe != "1m":
        kept = stored(filled, timeframe, FEATURES, source="market_features")
        assert values(read_features(None, timeframe, engine=engine, url=filled)) == kept


def test_columns_have_the_same_types_whatever_is_in_them(filled, read):
    nothing = ("2020-01-01", "2020-01-02")
    expected = {"symbol": "category", "timestamp": "datetime64[us, America/New_York]"} | dict.fromkeys(BARS, "float64")
    for bounds in ((), nothing):
        frame = read("AAPL", "1d", *bounds, tz="America/New_York", features=["rsi_14", "sma_20"])
        assert frame.dtypes.astype(str).to_dict() == expected | {
            "trades": "Int64",
            "rsi_14": "float64",
            "sma_20": "float64",
        }
        assert frame["symbol"].cat.categories.tolist() == ["AAPL"]
    full, empty = (read(None, "1d", *bounds, tz="America/New_York", engine="arrow").schema for bounds in ((), nothing))
    assert full == empty
    assert full.field("timestamp").type == pa.timestamp("us", "America/New_York")
    assert len(read_features("AAPL", "1d", *nothing, url=filled)) == 0


def test_the_iterator_gives_the_same_in_batches_of_one_symbol(filled, read):
    for options in (
        {"features": "all", "adjust": "all"},
        {"session": "regular"},
        {"known_at": "2999-01-01"},
    ):
        batches = list(iterate_bars(None, "1h", rows=50, url=filled, **options))
        assert {batch.num_rows for batch in batches} <= set(range(1, 51))
        assert all(len(set(batch["symbol"].to_pylist())) == 1 for batch in batches)
        assert values(pa.Table.from_batches(batches)) == values(read(None, "1h", engine="arrow", **options))
    unfinished = iterate_bars(None, "1m", rows=10, url=filled)
    assert 1 <= next(unfinished).num_rows <= 10
    unfinished.close()
    with pytest.raises(UsageMistake, match="rows must be an integer of at least 1"):
        iterate_bars(None, "1m", rows=0, url=filled)


def test_a_store_that_grows_is_read_as_it_was_at_the_first_batch(filled):
    before = read_bars(["AAPL", "BTC"], "1d", url=filled, engine="arrow").num_rows
    found = iterate_bars(["AAPL", "BTC"], "1d", url=filled)
    first = next(found)
    day = datetime(2024, 7, 20, tzinfo=UTC)
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(
            """insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)
               select s, '1d', %s, 1, 1, 1, 1, 1, 'polygon' from unnest(array['AAPL', 'BTC']) s""",
            [day],
        )
        assert first.num_rows + sum(batch.num_rows for batch in found) == before
        assert read_bars(["AAPL", "BTC"], "1d", url=filled, engine="arrow").num_rows == before + 2
        connection.execute("delete from market_data where timestamp = %s", [day])


# --- Bounds, sessions, zones


def starts(frame):
    return [at.to_pydatetime() for at in frame["timestamp"]]


def test_days_are_the_markets_own_and_included_and_instants_are_exact(read):
    for symbol, zone in (("AAPL", NEW_YORK), ("BTC", HOURS[Kind.CRYPTO].zone)):
        all_of_it, day = starts(read(symbol, "1m")), date(2024, 6, 27)
        by_day = starts(read(symbol, "1m", "2024-06-26", day))
        assert by_day == [at for at in all_of_it if date(2024, 6, 26) <= at.astimezone(zone).date() <= day]
        assert by_day
        begin, end = by_day[10], by_day[99]
        assert starts(read(symbol, "1m", begin, end.isoformat())) == by_day[10:99]
        assert starts(read(symbol, "1m", None, day)) == [at for at in all_of_it if at.astimezone(zone).date() <= day]
        assert starts(read(symbol, "1m", date.min, date.max)) == all_of_it


def test_a_coin_that_is_seldom_traded_is_no_stock(database_url):
    rng, sessions = np.random.default_rng(4), [date(2024, 7, day) for day in (8, 9)]
    stamps = minutes(Kind.CRYPTO, sessions, rng)
    with BarStore(database_url) as store:
        write(store, "BTC", MINUTE_1, random_bars(stamps[stamps // 3_600_000 % 24 >= 3], rng), sessions)
    found = read_bars("BTC", "1m", "2024-07-09", "2024-07-09", session="regular", url=database_url)
    assert set(found["timestamp"].dt.day) == {9}
    assert set(found["timestamp"].dt.hour) == set(range(3, 24))


def test_the_zone_changes_how_instants_are_shown_only(read):
    utc, tokyo = (read("AAPL", "1h", tz=tz)["timestamp"] for tz in ("UTC", "Asia/Tokyo"))
    assert str(tokyo.dt.tz) == "Asia/Tokyo"
    assert (utc == tokyo).all()


def is_regular(at):
    local = at.astimezone(NEW_YORK)
    return (
        timedelta(hours=9.5)
        <= timedelta(hours=local.hour, minutes=local.minute)
        < timedelta(hours=13 if local.date() == HALF_DAY else 16)
    )


@pytest.mark.parametrize("timeframe", ["1m", "5m", "30m"])
def test_regular_hours_end_early_on_a_half_day(read, timeframe):
    everything, regular = read("AAPL", timeframe), read("AAPL", timeframe, session="regular")
    expected = everything[[is_regular(at) for at in everything["timestamp"]]].reset_index(drop=True)
    pd.testing.assert_frame_equal(regular, expected)
    last = {
        at.date(): at.timetz().replace(tzinfo=None)
        for at in starts(read("AAPL", timeframe, session="regular", tz=NEW_YORK))
    }
    assert HOLIDAY not in last
    assert last[HALF_DAY].hour == 12
    pd.testing.assert_frame_equal(read("BTC", timeframe, session="regular"), read("BTC", timeframe))


@pytest.mark.parametrize(("timeframe", "bars", "half"), [("1h", 7, 4), ("4h", 2, 1)])
def test_hours_of_regular_trading_are_built_on_the_sessions_own_grid(read, timeframe, bars, half):
    found = read("AAPL", timeframe, session="regular", tz=NEW_YORK)
    by_day = found.groupby(found["timestamp"].dt.date).size()
    assert by_day[HALF_DAY] == half
    assert set(by_day.drop(HALF_DAY)) == {bars}
    assert {(at.minute, (at.hour - 9) % (TIMEFRAMES[timeframe].seconds // 3600)) for at in found["timestamp"]} == {
        (30, 0)
    }
    made = read("AAPL", "1m", session="regular", tz=NEW_YORK).set_index("timestamp")
    rule = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    day = made.loc["2024-07-09"].resample(timeframe, origin="start_day", offset="9h30min").agg(rule)
    expected = found[found["timestamp"].dt.date == date(2024, 7, 9)].set_index("timestamp")[list(rule)]
    pd.testing.assert_frame_equal(expected, day, check_freq=False)
    within = starts(read("AAPL", timeframe, expected.index[0], expected.index[1], session="regular"))
    assert within == [expected.index[0].to_pydatetime()]
    pd.testing.assert_frame_equal(read("BTC", timeframe, session="regular"), read("BTC", timeframe))
    pd.testing.assert_frame_equal(read("AAPL", "1d", session="regular"), read("AAPL", "1d"))


def test_a_source_is_the_true_one_of_each_bar(read):
    assert len(read("AAPL", "1m", source="polygon")) == len(read("AAPL", "1m"))
    assert len(read("AAPL", "1m", source="yahoo")) == 0
    assert len(read("AAPL", "5m", source="derived")) == len(read("AAPL", "5m"))
    weeks = {"symbols": "MSFT", "timeframe": "1w", "adjust": "all"}
    pd.testing.assert_frame_equal(read(**weeks, source="derived"), read(**weeks))


# --- Adjusted


@cache
def close_before(url, symbol, day):
    at = datetime.combine(day, datetime.min.time(), NEW_YORK)
    query = """select close from market_data where symbol = %s and timeframe = '1d' and timestamp < %s
               order by timestamp desc limit 1"""
    ((close,),) = rows(url, query, symbol, at)
    return close


@cache
def by_hand(url, day):
    """The factors of MSFT's prices and volumes of a day, with dividends: see ACTIONS."""
    price = shares = 1.0
    if day < date(2024, 7, 10):
        shares = 1 / 4
        price = shares * (1 - 0.5 / (close_before(url, "MSFT", date(2024, 7, 10)) / 4))
    if day < date(2024, 7, 2):
        price *= 1 - 4.0 / close_before(url, "MSFT", date(2024, 7, 2))
    return price, shares


@pytest.mark.parametrize("timeframe", ["1m", "30m", "1d"])
def test_adjusted_bars_and_features_are_what_the_definition_says(filled, read, timeframe):
    raw, found = (read("MSFT", timeframe, adjust=adjust, features="all") for adjust in ("none", "all"))
    factors = np.array([by_hand(filled, at.astimezone(NEW_YORK).date()) for at in raw["timestamp"]])
    scaled = {c.name: c.scaling for c in COLUMNS} | dict.fromkeys(PRICES, Scaling.PRICE) | {"volume": Scaling.VOLUME}
    for name, scaling in scaled.items():
        by = {Scaling.PRICE: factors[:, 0], Scaling.VOLUME: 1 / factors[:, 1], Scaling.NONE: np.ones(len(raw))}[scaling]
        np.testing.assert_allclose(found[name], raw[name] * by, rtol=1e-12, err_msg=name)
    pd.testing.assert_series_equal(found["trades"], raw["trades"])


@pytest.mark.parametrize("timeframe", ["5m", "1d"])
def test_frames_and_views_agree_to_the_last_bit(filled, read, timeframe):
    for adjust, view in (("splits", "market_data_adjusted"), ("all", "market_data_total_return")):
        assert values(read(None, timeframe, adjust=adjust)) == stored(filled, timeframe, BARS, source=view)
    assert values(read(None, timeframe, adjust="splits", as_of="2024-07-09")) == stored(
        filled, timeframe, BARS, source="market_data_as_of('2024-07-09')"
    )


def test_what_has_no_action_is_not_changed_by_a_bit(filled, read):
    assert values(read("BTC", "1m", adjust="all")) == stored(filled, "1m", BARS, ["BTC"])
    assert values(read("AAPL", "1m", adjust="splits")) == stored(filled, "1m", BARS, ["AAPL"])


@pytest.mark.parametrize("adjust", ["splits", "all"])
def test_weeks_are_built_of_adjusted_days(read, adjust):
    weeks, days = (read("MSFT", timeframe, adjust=adjust, tz=NEW_YORK) for timeframe in ("1w", "1d"))
    sunday = days["timestamp"].dt.date.map(lambda day: day - timedelta(days=(day.weekday() + 1) % 7))
    rule = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    expected = days.groupby(sunday).agg(rule)
    assert weeks["timestamp"].dt.date.tolist() == expected.index.tolist()
    np.testing.assert_allclose(weeks[list(rule)], expected, rtol=1e-12)
    stored_weeks = read("MSFT", "1w", features=["sma_20", "obv_change_20"], tz=NEW_YORK)
    found = read("MSFT", "1w", features=["sma_20", "obv_change_20"], adjust="splits", tz=NEW_YORK)
    # Features of the week of the split are in its last day's shares.
    assert (found["sma_20"] / stored_weeks["sma_20"]).dropna().round(12).isin([0.25, 1]).all()
    np.testing.assert_allclose(found["sma_20"].iloc[-1], stored_weeks["sma_20"].iloc[-1])


def test_the_vendors_own_factor_of_a_dividend(database_url):
    """Polygon's documentation of /stocks/v1/dividends: AAPL's of 2025-08-11 has the historical_adjustment_factor 0.997899.

    It covers the next one too. The closes before them are those of Nasdaq: 229.35 and 268.47.
    """
    closes = {
        date(2025, 8, 8): 229.35,
        date(2025, 8, 11): 227.18,
        date(2025, 11, 7): 268.47,
        date(2025, 11, 10): 269.43,
    }
    with psycopg.connect(database_url) as connection:
        for day, close in closes.items():
            at = datetime.combine(day, datetime.min.time(), NEW_YORK)
            connection.execute(
                """insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)
                   values ('AAPL', '1d', %s, %s, %s, %s, %s, 1, 'polygon')""",
                [at, *[close] * 4],
            )
        for day in (date(2025, 8, 11), date(2025, 11, 10)):
            add_action(connection, "AAPL", "dividend", day, None, None, 0.26, "USD")
    found = read_bars("AAPL", "1d", adjust="all", url=database_url)["close"] / list(closes.values())
    assert found.round(6).tolist() == [0.997899, 0.999032, 0.999032, 1.0]


CASH = st.sampled_from([0.01, 0.25, 1.0, 7.5, 40.0])
RATIOS = st.sampled_from([(1, 2), (1, 10), (2, 3), (8, 1), (100, 105)])
DAYS = st.integers(0, 20).map(lambda n: date(2024, 3, 4) + timedelta(days=n))


@given(
    splits=st.lists(st.tuples(DAYS, RATIOS), max_size=4, unique_by=lambda s: (s[0], s[1][1] / s[1][0])),
    dividends=st.lists(
        st.tuples(DAYS, CASH, st.sampled_from(["USD", None, "EUR"])), max_size=5, unique_by=lambda d: d[:2]
    ),
    as_of=DAYS,
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_actions_multiply_to_the_definition(database_url, splits, dividends, as_of):
    days = [date(2024, 3, 1) + timedelta(days=n) for n in range(25)]
    closes = {day: 90.0 + day.day for day in days}
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from corporate_events")
        connection.execute("delete from market_data")
        for day, close in closes.items():
            connection.execute(
                """insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)
                   values ('X', '1d', %s, %s, %s, %s, %s, 1000, 'polygon')""",
                [datetime.combine(day, datetime.min.time(), NEW_YORK), *[close] * 4],
            )
        for day, (old, new) in splits:
            add_action(connection, "X", "split", day, old, new, None, None)
        for day, cash, currency in dividends:
            add_action(connection, "X", "dividend", day, None, None, cash, currency)
    price, volume, ratio = [], [], 1.0
    for day in reversed(days):
        following = day + timedelta(days=1)
        if following <= as_of:
            today = float(np.prod([old / new for d, (old, new) in splits if d == following]))
            paid = sum(cash for d, cash, currency in dividends if d == following and currency != "EUR")
            ratio *= today * (1 - paid / (closes[day] * today)) if paid < closes[day] * today else np.nan
        shares = float(np.prod([old / new for d, (old, new) in splits if day < d <= as_of]))
        price.append(closes[day] * ratio)
        volume.append(1000 / shares)
    read = {"adjust": "all", "as_of": as_of, "url": database_url}
    if np.isnan(price).any():
        with pytest.raises(StoreError, match="has a dividend"):
            read_bars("X", "1d", **read)
        return
    found = read_bars("X", "1d", **read)
    np.testing.assert_allclose(found["close"], price[::-1], rtol=1e-12)
    np.testing.assert_allclose(found["volume"], volume[::-1], rtol=1e-12)


def test_a_dividend_without_a_close_before_it_is_an_error_only_for_earlier_bars(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)
               select 'X', '1d', t, 10, 10, 10, 10, 1, 'polygon'
               from unnest(array['2024-03-04 05:00Z', '2024-05-01 04:00Z']::timestamptz[]) t"""
        )
        add_action(connection, "X", "dividend", date(2024, 4, 2), None, None, 0.1, "USD")
        add_action(connection, "X", "dividend", date(2024, 2, 1), None, None, 0.1, "USD")
    with pytest.raises(StoreError, match=r"^X has a dividend without a daily close in the week before it"):
        read_bars("X", "1d", adjust="all", url=database_url)
    assert len(read_bars("X", "1d", "2024-04-02", adjust="all", url=database_url)) == 1
    assert len(read_bars("X", "1d", adjust="splits", url=database_url)) == 2


# --- As it was known


@pytest.mark.parametrize("timeframe", ["1m", "15m", "1h", "1d", "1w"])
def test_bars_and_actions_are_read_as_they_were_known(database_url, timeframe):
    rng, base = (
        np.random.default_rng(3),
        MINUTE_1 if TIMEFRAMES[timeframe].derived_from == "1m" or timeframe == "1m" else DAY_1,
    )
    sessions = [date(2024, 7, day) for day in (8, 9, 10, 11, 12)]
    stamps = minutes(Kind.STOCKS, sessions, rng) if base == MINUTE_1 else day_starts(sessions, NEW_YORK)
    first = random_bars(stamps, rng)
    kept = np.ones(len(first), bool)
    kept[[1]] = False
    second = first.take(kept)
    second.open[2] += 0.5
    third = first.take(np.arange(len(first)))
    third.close[:] += 0.25
    states = []
    with BarStore(database_url) as store:
        for number, bars in enumerate((first, second, third)):
            for hours in (0, 2):  # what removes a tenth of a session is confirmed by the second answer
                write(store, "AAPL", base, bars, sessions, FETCHED + timedelta(hours=24 * number + hours))
            states.append((store.now(), read_bars("AAPL", timeframe, url=database_url)))
    assert len({state.to_csv() for _, state in states}) == 3
    for at, expected in states:
        found = read_bars("AAPL", timeframe, known_at=at, url=database_url)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    assert len(read_bars("AAPL", timeframe, known_at=states[0][0] - timedelta(days=1), url=database_url)) == 0
    if timeframe == "1d":
        with psycopg.connect(database_url) as connection:
            add_action(connection, "AAPL", "dividend", sessions[-1], None, None, 0.1, "USD", seen=states[0][0])
        for at, raw in states:
            found = read_bars("AAPL", "1d", adjust="all", known_at=at, url=database_url)["close"][:-1]
            close = raw["close"][:-1]  # the last of these, as it was known then, makes the factor
            np.testing.assert_allclose(found, close * (1 - 0.1 / close.iloc[-1]), rtol=1e-12)
        return
    with psycopg.connect(database_url) as connection:
        seen, gone = states[0][0], states[1][0]
        add_action(connection, "AAPL", "split", date(2024, 8, 1), 1, 2, None, None, seen=seen, withdrawn=gone)
    late = "2024-09-01"
    for at, by in ((seen - timedelta(seconds=1), 1), (seen, 0.5), (gone, 1), (states[2][0], 1)):
        read = {"known_at": at, "url": database_url}
        raw, found = (
            read_bars("AAPL", timeframe, **options) for options in (read, read | {"adjust": "splits", "as_of": late})
        )
        np.testing.assert_allclose(found["close"], raw["close"] * by, rtol=1e-12)


# --- Gaps and actions


@pytest.mark.parametrize("engine", ["pandas", "polars", "arrow"])
def test_gaps_have_their_reason_and_their_next_attempt(database_url, engine):
    due = datetime(2024, 3, 9, 12, tzinfo=UTC)
    with psycopg.connect(database_url) as connection:
        for symbol, explained, at, filled in (
            ("AAPL", False, due, False),
            ("MSFT", True, None, False),
            ("AAPL", False, due, True),
        ):
            connection.execute(
                """insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts,
                     next_attempt_at, first_seen, filled, filled_at)
                   values (%s, '1m', '2024-03-04', '2024-03-06', 3, 'missing', %s, 2, %s, %s, %s, %s)""",
                [symbol, explained, at, due, filled, due if filled else None],
            )
    assert values(read_gaps(engine=engine, url=database_url)) == {
        "symbol": ("AAPL", "MSFT"),
        "timeframe": ("1m", "1m"),
        "first_session": (date(2024, 3, 4),) * 2,
        "last_session": (date(2024, 3, 6),) * 2,
        "sessions": (3, 3),
        "reason": ("missing", "missing"),
        "detail": ("", ""),
        "explained": (False, True),
        "attempts": (2, 2),
        "next_attempt_at": (due, None),
        "first_seen": (due, due),
    }
    assert values(read_gaps("MSFT", "1m", engine=engine, url=database_url))["symbol"] == ("MSFT",)
    assert values(read_gaps(["MSFT"], ["5m", "1d"], engine=engine, url=database_url))["symbol"] == ()
    with pytest.raises(NotStored, match="did you mean AAPL"):
        read_gaps("APPL", url=database_url)


def test_corporate_actions_are_by_ex_date_and_without_the_withdrawn(filled, database_url):
    found = read_corporate_actions("MSFT", "2024-07-02", date(2024, 7, 10), url=filled)
    assert found[["kind", "ex_date", "cash_amount"]].fillna(0).to_numpy().tolist() == [
        ["dividend", date(2024, 7, 2), 1.0],
        ["dividend", date(2024, 7, 2), 3.0],
        ["dividend", date(2024, 7, 10), 0.5],
        ["split", date(2024, 7, 10), 0],
    ]
    assert len(read_corporate_actions(url=filled, engine="polars")) == 7
    with psycopg.connect(database_url) as connection:
        add_action(connection, "MSFT", "split", date(2024, 7, 10), 1, 4, None, None, withdrawn=FETCHED)
    assert len(read_corporate_actions(url=database_url)) == 0
    assert read_corporate_actions(withdrawn=True, url=database_url)["withdrawn_at"].tolist() == [pd.Timestamp(FETCHED)]


# --- What is wrong


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"symbols": "msft"}, NotStored, "There is nothing of 'msft' in the store; did you mean MSFT?"),
        ({"symbols": ["AAPL", "ZZZZ"]}, NotStored, "'ZZZZ' in the store; there are AAPL, BTC, MSFT."),
        ({"symbols": []}, UsageMistake, "symbols must be a name or a list of names, or None for all."),
        ({"symbols": [7]}, UsageMistake, "symbols must be a name"),
        ({"symbols": "'; drop table market_data --"}, NotStored, "There is nothing of"),
        ({"timeframe": "2m"}, NotStored, "Timeframe '2m' is unknown; there are 1m, 5m,"),
        ({"features": "rsi"}, NotStored, "Feature 'rsi' is unknown; did you mean rsi_14?"),
        ({"features": ["atr_14", '"x']}, NotStored, "is unknown"),
        ({"adjust": "dividends"}, UsageMistake, "adjust must be 'none', 'splits' or 'all', not 'dividends'."),
        ({"session": "rth"}, UsageMistake, "session must be 'all' or 'regular', not 'rth'."),
        ({"engine": "spark"}, UsageMistake, "engine must be 'pandas', 'polars' or 'arrow', not 'spark'."),
        ({"tz": "Mars/Olympus"}, UsageMistake, "tz 'Mars/Olympus' is no time zone"),
        ({"start": "yesterday"}, UsageMistake, "start must be a day like '2024-01-02' or an instant with a zone"),
        ({"start": 20240102}, UsageMistake, "start must be a day"),
        ({"start": datetime(2024, 7, 1)}, UsageMistake, "has no time zone"),  # noqa: DTZ001  # the mistake
        ({"end": "2024-07-01T09:30"}, UsageMistake, "has no time zone"),
        ({"start": "2024-07-02", "end": "2024-07-01"}, UsageMistake, "end 2024-07-01 is before start 2024-07-02."),
        ({"as_of": "2024-07-01"}, UsageMistake, "pass adjust='splits' or adjust='all' with it."),
        ({"adjust": "all", "as_of": FETCHED}, UsageMistake, "as_of must be a day like"),
        ({"known_at": "2024-07-01", "features": "all"}, UsageMistake, "read them without known_at."),
        ({"timeframe": "1h", "session": "regular", "features": "all"}, UsageMistake, "read them with session='all'."),
        ({"symbols": 7}, UsageMistake, "symbols must be a name"),
        ({"features": 7}, UsageMistake, "features must be a name"),
        ({"features": pd.Index(["rsi_14", "x"])}, NotStored, "Feature 'x' is unknown"),
        ({"source": 7}, UsageMistake, "source must be a text, not 7."),
        ({"source": "a\0"}, UsageMistake, "source must be a text"),
        ({"known_at": date.max, "symbols": "msft"}, NotStored, "did you mean MSFT?"),
        *(
            ({"timeout": seconds}, UsageMistake, "timeout must be a number of seconds above 0 and at most 2147483, not")
            for seconds in (0, "5", None, float("nan"), float("inf"), 1e9)
        ),
        ({"url": "sekrit"}, UsageMistake, "url must be of the form postgresql://"),
        ({"url": "postgresql://u:sekrit@127.0.0.1:1/x"}, DatabaseUnavailable, "127.0.0.1:1/x cannot be used"),
        ({"url": "postgresql://u:sekrit@127.0.0.1:port/x"}, UsageMistake, "url must be of the form"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_no_secret(filled, arguments, error, sentence):
    with pytest.raises(error) as raised:
        read_bars(**{"symbols": "AAPL", "timeframe": "1m", "url": filled} | arguments)
    assert sentence in str(raised.value)
    assert "sekrit" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_features_alone_need_a_name(filled):
    for features in (None, [], 7):
        with pytest.raises(UsageMistake, match=r"^features must be"):
            read_features("AAPL", "1m", features=features, url=filled)


def test_a_store_without_bars_or_tables_says_what_to_do(database_url):
    with pytest.raises(EmptyStore, match="`backfill run` fetches them"):
        read_bars("AAPL", "1m", url=database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)
               values ('AAPL', '1d', now(), 1, 1, 1, 1, 1, 'polygon')"""
        )
    with pytest.raises(NotStored, match=r"no bars of timeframe 5m; stored are 1d\."):
        read_bars("AAPL", "5m", url=database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("update backfill_schema_version set version_num = '0001'")
    with pytest.raises(SchemaBehind, match="backfill db upgrade"):
        read_bars("AAPL", "1d", url=database_url)


def test_a_statement_that_takes_too_long_is_ended(filled):
    locked = "begin; lock table market_data_counts in access exclusive mode"
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(locked)
        with pytest.raises(StoreError, match=r"PostgreSQL took longer than 0\.05 s"):
            read_bars("AAPL", "1m", url=filled, timeout=0.05)
        connection.execute("rollback")
        connection.execute(locked.replace("market_data_counts", "market_data"))
        with pytest.raises(StoreError, match=r"PostgreSQL took longer than 0\.05 s"):
            read_bars("AAPL", "1m", url=filled, timeout=0.05)
        connection.execute("rollback")


def test_a_role_that_may_only_select_reads_and_nothing_else(filled, monkeypatch):
    parts = urlsplit(filled)
    role = "reader" + parts.path.rpartition("_")[2]
    url = parts._replace(netloc=f"{role}:pa55word@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(
            f"create role {role} login password 'pa55word'; grant select on all tables in schema public to {role}"
        )
        try:
            monkeypatch.setenv("DATABASE_URL", url)
            for options in ({"adjust": "all"}, {"features": "all"}, {"known_at": "2999-01-01"}):
                pd.testing.assert_frame_equal(
                    read_bars(None, "1d", **options), read_bars(None, "1d", url=filled, **options)
                )
            assert len(read_gaps()) == 0
            assert len(read_corporate_actions()) == 7
            connection.execute(f"revoke select on market_features from {role}")  # noqa: S608  # our own
            with pytest.raises(DatabaseUnavailable, match="permission denied for table market_features") as raised:
                read_features("AAPL", "1d")
            assert "pa55word" not in str(raised.value)
        finally:
            connection.execute(f"drop owned by {role}; drop role {role}")


def test_a_reader_cannot_write_even_as_the_owner(filled):
    for through in ("connection", "_adbc"):
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"), opened(filled, 60) as reader:
            getattr(reader, through).cursor().execute("create table mine ()")


# --- Without the extra, without a database, without Dagster

HIDDEN = """
import sys
for name in ("pyarrow", "adbc_driver_manager", "adbc_driver_postgresql", "polars"):
    sys.modules[name] = None
import warnings
warnings.simplefilter("error", ResourceWarning)
from backfill_assets import iterate_bars, read_bars, read_corporate_actions, read_features, read_gaps
from backfill_assets.domain.errors import UsageMistake
url = sys.argv[1]
for ask in (lambda: read_bars("AAPL", "1d", engine="polars", url=url), lambda: iterate_bars("AAPL", "1d", url=url)):
    try:
        ask()
    except UsageMistake as error:
        assert "pip install 'backfill-assets[reading]'" in str(error), error
    else:
        raise AssertionError
frames = [
    read_bars(None, "1m", url=url), read_bars(None, "1d", adjust="all", features="all", url=url),
    read_bars(None, "1d", "2020-01-01", "2020-01-02", url=url), read_features(None, "1w", url=url),
    read_corporate_actions("MSFT", url=url), read_gaps(url=url),
]
import pickle
with open(sys.argv[2], "wb") as file:
    pickle.dump([{name: frame[name].tolist() for name in frame} for frame in frames], file)
"""


def test_without_the_extra_pandas_gets_the_same(filled, tmp_path):
    subprocess.run([sys.executable, "-c", HIDDEN, filled, str(tmp_path / "frames")], check=True)
    frames = pd.read_pickle(tmp_path / "frames")  # noqa: S301  # our own
    expected = [
        read_bars(None, "1m", url=filled),
        read_bars(None, "1d", adjust="all", features="all", url=filled),
        read_bars(None, "1d", "2020-01-01", "2020-01-02", url=filled),
        read_features(None, "1w", url=filled),
        read_corporate_actions("MSFT", url=filled),
        read_gaps(url=filled),
    ]
    for found, same in zip(frames, expected, strict=True):
        assert values(pd.DataFrame(found)) == values(same)


def test_importing_the_functions_loads_neither_dagster_nor_pandas():
    code = """
import sys
from backfill_assets import iterate_bars, read_bars, read_corporate_actions, read_features, read_gaps
heavy = {"dagster", "pandas", "polars", "pyarrow", "adbc_driver_manager", "exchange_calendars", "numba", "sqlalchemy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_url_the_embedded_server_is_started(monkeypatch):
    with public_folder() as folder:
        unset_variables(monkeypatch, "DATABASE_URL")
        monkeypatch.setenv("BACKFILL_DATA_DIR", str(folder))
        try:
            with pytest.raises(EmptyStore):
                read_bars("AAPL", "1d")
        finally:
            EmbeddedPostgres(folder).stop()
