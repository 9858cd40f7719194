import itertools
import math
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.quality import InvalidBars, QualityStore
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import HOURS, Kind, calendar, count_by_session
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1, made_from
from backfill_assets.simulator import Market, Scenario
from backfill_assets_tests.support import MOMENT, rows

STORE = QualityStore

HIGH = "high is below open, close or low"
LOW = "low is above open or close"
PRICE = "a price is not positive and finite"
VOLUME = "volume is negative or not finite"
GRID = "the timestamp is not on the timeframe's grid"
SESSION = "the bar is outside its session's hours"

YEAR = DayRange(date(2024, 1, 1), date(2024, 12, 31))
SHUT = date(2024, 5, 4)
"""A day without crypto trading."""
CALENDARS = {Kind.STOCKS: calendar(Kind.STOCKS, YEAR), Kind.CRYPTO: calendar(Kind.CRYPTO, YEAR, frozenset({SHUT}))}
ALL = tuple(TIMEFRAMES.values())
GOOD = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 100.0}
NAN, INF = math.nan, math.inf


@pytest.fixture
def put(database_url):
    """Insert bars: (symbol, timeframe name, start, values that differ from a good bar's)."""

    def put(*bars):
        with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
                   values (%s, %s, %s, %s, %s, %s, %s, %s, 'test')""",
                [[symbol, timeframe, at, *(GOOD | changes).values()] for symbol, timeframe, at, changes in bars],
            )

    return put


def examine(store, *symbols, kind=Kind.STOCKS, timeframes=ALL, days=YEAR):
    return store.examine(symbols, timeframes, CALENDARS[kind], days)


@pytest.fixture
def broken(store, put):
    """Return the rules that each bar (timeframe name, start, values) breaks; every bar has its own symbol."""

    def broken(bars, kind=Kind.STOCKS):
        names = [f"S{number}" for number in range(len(bars))]
        put(*((name, *bar) for name, bar in zip(names, bars, strict=True)))
        found = {name: set() for name in names}
        for invalid in examine(store, *names, kind=kind).invalid:
            assert invalid.bars == 1
            found[invalid.symbol].add(invalid.rule)
        return list(found.values())

    return broken


def local(moment, kind=Kind.STOCKS):
    """Convert a local time of the market, as ISO text."""
    return datetime.fromisoformat(moment).replace(tzinfo=HOURS[kind].zone).astimezone(UTC)


# --- Values


GOOD_VALUES = [
    {},
    {"open": 9.0, "close": 11.0},
    dict.fromkeys(("open", "high", "low", "close"), 7.0),
    dict.fromkeys(("open", "high", "low", "close"), 1e-8),
    {"volume": 0.0},
    {"volume": 1e15},
]
BAD_VALUES = [
    ({"high": 9.5}, {HIGH}),
    ({"open": 12.0}, {HIGH}),
    ({"close": 12.0}, {HIGH}),
    ({"open": 8.0, "close": 8.0, "low": 8.0, "high": 7.0}, {HIGH}),
    ({"low": 10.5}, {LOW}),
    ({"open": 8.0}, {LOW}),
    ({"close": 8.0}, {LOW}),
    ({"low": 12.0}, {HIGH, LOW}),
    ({"low": 0.0}, {PRICE}),
    ({"low": -1.0}, {PRICE}),
    (dict.fromkeys(("open", "high", "low", "close"), 0.0), {PRICE}),
    ({"low": -INF}, {PRICE}),
    ({"high": INF}, {PRICE}),
    ({"high": NAN}, {PRICE}),
    (dict.fromkeys(("open", "high", "low", "close"), NAN), {PRICE}),
    # NaN and infinity are greater than any high.
    ({"close": NAN}, {PRICE, HIGH}),
    ({"open": INF}, {PRICE, HIGH}),
    ({"low": NAN}, {PRICE, HIGH, LOW}),
    ({"volume": -1.0}, {VOLUME}),
    ({"volume": NAN}, {VOLUME}),
    ({"volume": INF}, {VOLUME}),
    ({"volume": -INF}, {VOLUME}),
]


def test_a_valid_bar_breaks_no_rule(broken):
    at = local("2024-03-05T09:30")
    assert broken([("1m", at, values) for values in GOOD_VALUES]) == [set()] * len(GOOD_VALUES)


@pytest.mark.parametrize(
    ("timeframe", "at"),
    [("1m", "2024-03-05T09:30"), ("4h", "2024-03-05T07:00"), ("1d", "2024-03-05"), ("1w", "2024-03-03")],
)
def test_invalid_values_break_exactly_these_rules(broken, timeframe, at):
    found = broken([(timeframe, local(at), values) for values, _ in BAD_VALUES])
    for (values, rules), these in zip(BAD_VALUES, found, strict=True):
        assert these == rules, values


# --- Instants


STOCKS_STARTS = [
    ("1m", "2024-03-05T03:59", {SESSION}),
    ("1m", "2024-03-05T04:00", set()),
    ("1m", "2024-03-05T19:59", set()),
    ("1m", "2024-03-05T20:00", {SESSION}),
    ("1m", "2024-03-05T09:30:30", {GRID}),
    ("1m", "2024-03-05T20:00:01", {GRID, SESSION}),
    ("1m", "2024-03-09T12:00", {SESSION}),  # a Saturday
    ("1m", "2024-03-29T12:00", {SESSION}),  # Good Friday
    ("1m", "2024-11-29T19:59", set()),
    ("1m", "2024-11-29T20:00", {SESSION}),
    ("5m", "2024-03-05T03:55", {SESSION}),
    ("5m", "2024-03-05T09:31", {GRID}),
    ("15m", "2024-03-05T09:40", {GRID}),
    ("30m", "2024-03-05T19:45", {GRID}),
    ("1h", "2024-03-05T20:00", {SESSION}),
    ("1h", "2024-03-05T09:30", {GRID}),
    # In winter 4h bars start at 23:00, 03:00, 07:00 … New York: the first minutes are in the one from 03:00.
    ("4h", "2024-03-07T23:00", {SESSION}),
    ("4h", "2024-03-08T03:00", set()),
    ("4h", "2024-03-08T19:00", set()),
    ("4h", "2024-03-08T04:00", {GRID}),
    # In summer at 00:00, 04:00 … 16:00: the one from 20:00 starts when trading has ended.
    ("4h", "2024-03-11T00:00", {SESSION}),
    ("4h", "2024-03-11T04:00", set()),
    ("4h", "2024-03-11T16:00", set()),
    ("4h", "2024-03-11T20:00", {SESSION}),
    ("4h", "2024-03-11T03:00", {GRID}),
    ("1d", "2024-03-08T00:00", set()),
    ("1d", "2024-11-04T00:00", set()),
    ("1d", "2024-03-09T00:00", {SESSION}),
    ("1d", "2024-03-06T01:00", {GRID}),
    ("1d", "2024-03-05T19:00", {GRID}),  # midnight of UTC
    ("1d", "2024-03-10T00:00", {SESSION}),  # the clocks go forward
    ("1w", "2024-11-03T00:00", set()),  # and back
    ("1w", "2024-11-03T01:00", {GRID}),
    ("1w", "2024-03-11T00:00", {GRID}),
]
COINS_STARTS = [
    ("1m", "2024-03-09T00:00", set()),
    ("1m", "2024-03-10T02:30", set()),
    ("1m", f"{SHUT}T12:00", {SESSION}),
    ("5m", "2024-03-09T00:01", {GRID}),
    ("4h", "2024-03-10T20:00", set()),
    ("4h", "2024-03-10T22:00", {GRID}),
    ("1d", "2024-03-09T05:00", {GRID}),
    ("1d", f"{SHUT}T00:00", {SESSION}),
    ("1w", "2024-03-10T00:00", set()),
    ("1w", "2024-03-11T00:00", {GRID}),
]
"""A coin's day is the UTC day, around the clock."""


@pytest.mark.parametrize(("kind", "starts"), [(Kind.STOCKS, STOCKS_STARTS), (Kind.CRYPTO, COINS_STARTS)])
def test_a_bar_starts_on_the_grid_and_within_its_session(broken, kind, starts):
    found = broken([(timeframe, local(at, kind), {}) for timeframe, at, _ in starts], kind)
    for (timeframe, at, rules), these in zip(starts, found, strict=True):
        assert these == rules, (timeframe, at)


# --- Results


def test_bars_are_counted_by_series_and_rule_with_the_start_of_the_first(store, put):
    first = local("2024-03-05T10:00")
    put(
        *(("AAPL", "1m", first + n * timedelta(minutes=1), {"volume": -1.0}) for n in range(3)),
        ("AAPL", "1m", local("2024-03-05T03:59"), {"high": 1.0}),
        ("AAPL", "5m", first, {"volume": -1.0}),
        ("SPY", "1m", first, {"volume": -1.0}),
        ("SPY", "1m", local("2024-03-05T10:01"), {}),
    )
    found = examine(store, "SPY", "AAPL")
    assert found.days == (YEAR,)
    assert found.bars == {"1m": 6, "5m": 1}
    assert found.invalid == (
        InvalidBars("AAPL", "1m", HIGH, 1, local("2024-03-05T03:59")),
        InvalidBars("AAPL", "1m", VOLUME, 3, first),
        InvalidBars("AAPL", "1m", SESSION, 1, local("2024-03-05T03:59")),
        InvalidBars("AAPL", "5m", VOLUME, 1, first),
        InvalidBars("SPY", "1m", VOLUME, 1, first),
    )
    assert {i.first.tzinfo for i in found.invalid} == {UTC}


def test_only_the_given_symbols_timeframes_and_days_are_examined(store, put):
    bad = {"volume": -1.0}
    put(
        ("AAPL", "1m", local("2024-03-04T23:59"), bad),
        ("AAPL", "1m", local("2024-03-05T00:00"), bad),
        ("AAPL", "1m", local("2024-03-06T23:59"), bad),
        ("AAPL", "1m", local("2024-03-07T00:00"), bad),
        ("AAPL", "5m", local("2024-03-05T12:00"), bad),
        ("SPY", "1m", local("2024-03-05T12:00"), bad),
    )
    days = DayRange(date(2024, 3, 5), date(2024, 3, 6))
    found = examine(store, "AAPL", timeframes=[MINUTE_1], days=days)
    assert found.bars == {"1m": 2}
    assert [(i.timeframe, i.bars) for i in found.invalid if i.rule == VOLUME] == [("1m", 2)]


@pytest.mark.parametrize("timeframe", ["1m", "4h", "1d"])
def test_days_without_a_session_allow_no_bar(store, put, timeframe):
    saturday, sunday = date(2024, 3, 9), date(2024, 3, 10)
    at = local("2024-03-09T00:00" if timeframe == "1d" else "2024-03-09T11:00")
    put(("AAPL", timeframe, at, {}))
    found = examine(store, "AAPL", days=DayRange(saturday, sunday))
    assert [(i.timeframe, i.rule, i.bars) for i in found.invalid] == [(timeframe, SESSION, 1)]


@pytest.mark.parametrize("timeframes", [(), (DAY_1,), (DAY_1, WEEK_1), (MINUTE_1,)])
def test_any_timeframes_can_be_examined(store, put, timeframes):
    put(("X", "1d", local("2024-03-09"), {}), ("X", "1w", local("2024-03-10"), {}))
    found = examine(store, "X", timeframes=timeframes)
    assert set(found.bars) == {t.name for t in timeframes} - {"1m"}
    assert [i.rule for i in found.invalid] == [SESSION] * (DAY_1 in timeframes)


def test_an_empty_table_is_valid(store):
    found = examine(store, "X")
    assert (found.bars, found.invalid) == ({}, ())
    assert examine(store).invalid == ()


# --- Random bars

NUMBERS = st.sampled_from([-INF, -1.0, 0.0, 1e-8, 8.0, 9.0, 10.0, 11.0, 12.0, INF, NAN])
VALUES = st.dictionaries(st.sampled_from(sorted(GOOD)), NUMBERS, max_size=3)
# Around the ends of half days, holidays, weekends and both changes of the clocks; sometimes off the grid.
DAYS = st.sampled_from(
    [date(2024, m, d) for m, d in ((3, 8), (3, 9), (3, 10), (3, 11), (5, 4), (7, 3), (7, 4), (11, 1), (11, 3), (11, 4))]
)
STARTS = st.builds(
    lambda day, hours, minutes, seconds: (
        datetime.combine(day, time(0), UTC) + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    ),
    DAYS,
    st.integers(0, 29),
    st.sampled_from([0, 0, 0, 5, 15, 30, 59]),
    st.sampled_from([0, 0, 0, 1]),
)


def by_the_words(kind, timeframe, at, values):
    """Return the rules that a bar breaks. NaN counts as greater than everything."""
    trading, hours = CALENDARS[kind], HOURS[kind]
    o, h, lo, c = ((1, 0.0) if math.isnan(v) else (0, v) for v in (values[n] for n in ("open", "high", "low", "close")))
    found = set()
    if h < o or h < c or h < lo:
        found.add(HIGH)
    if lo > o or lo > c:
        found.add(LOW)
    if not all(math.isfinite(values[n]) and values[n] > 0 for n in ("open", "high", "low", "close")):
        found.add(PRICE)
    if not math.isfinite(values["volume"]) or values["volume"] < 0:
        found.add(VOLUME)
    start = at.astimezone(hours.zone)
    day = start.date()
    if timeframe in (DAY_1, WEEK_1):
        if start.time() != time(0) or (timeframe == WEEK_1 and start.isoweekday() != 7):
            found.add(GRID)
        if timeframe == DAY_1 and day not in trading:
            found.add(SESSION)
        return found
    if at.timestamp() % timeframe.seconds:
        found.add(GRID)
    opens = datetime.combine(day, hours.opens, hours.zone)
    closes = datetime.combine(day, hours.closes, hours.zone) if hours.closes else opens + ONE_DAY
    ends = at + timedelta(seconds=timeframe.seconds)
    if day not in trading or at >= closes.astimezone(UTC) or ends <= opens.astimezone(UTC):
        found.add(SESSION)
    return found


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(Kind), st.lists(st.tuples(st.sampled_from(ALL), STARTS, VALUES), min_size=1, max_size=40))
def test_rules_agree_with_their_definitions_in_python(broken, database_url, kind, bars):
    with psycopg.connect(database_url) as connection:
        connection.execute("truncate market_data")
    found = broken([(timeframe.name, at, values) for timeframe, at, values in bars], kind)
    assert found == [by_the_words(kind, timeframe, at, GOOD | values) for timeframe, at, values in bars]


# --- A vendor's bars


@pytest.mark.parametrize(
    ("kind", "ticker", "first", "last"),
    [
        pytest.param(Kind.STOCKS, "AAPL", date(2024, 3, 4), date(2024, 3, 15), id="clocks go forward"),
        pytest.param(Kind.STOCKS, "SPY", date(2024, 10, 28), date(2024, 11, 8), id="clocks go back"),
        pytest.param(Kind.STOCKS, "MSFT", date(2024, 11, 25), date(2024, 12, 6), id="Thanksgiving and its half day"),
        pytest.param(Kind.CRYPTO, "X:BTCUSD", date(2024, 10, 27), date(2024, 11, 9), id="coins"),
        pytest.param(Kind.CRYPTO, "X:ETHUSD", date(2024, 3, 3), date(2024, 3, 16), id="coins in spring"),
    ],
)
def test_bars_of_a_healthy_vendor_and_derived_ones_break_no_rule(store, database_url, kind, ticker, first, last):
    vendor = Market(Scenario(), lambda: MOMENT)
    trading = CALENDARS[kind]
    zone = trading.hours.zone
    days = DayRange(first, last)
    sessions = trading.within(days)
    for timeframe, ask in ((MINUTE_1, vendor.minute_bars), (DAY_1, vendor.daily_bars)):
        c = ask(ticker, first, last)
        bars = Bars(c.t, c.open, c.high, c.low, c.close, c.volume, c.vwap, c.trades)
        answer = CompleteSessions(sessions, tuple(count_by_session(bars, sessions, zone)), bars)
        terms = WriteContext(zone, MOMENT, derived=made_from(timeframe, ALL), finished=sessions)
        BarStore.beside(store).write("X", timeframe, answer, terms)
    # A week starts on Sunday, possibly before the first session.
    found = examine(store, "X", kind=kind, days=DayRange(first - 6 * ONE_DAY, last))
    assert found.invalid == ()
    assert set(found.bars) == set(TIMEFRAMES)
    assert found.bars == dict(rows(database_url, "select timeframe, count(*) from market_data group by 1"))
    least = itertools.pairwise(found.bars[t] for t in TIMEFRAMES)
    assert all(finer > coarser for finer, coarser in least)
    assert [store.outliers(["X"], timeframe, trading, days) for timeframe in (MINUTE_1, DAY_1)] == [[], []]


def test_volatile_thin_and_crashing_markets_have_no_outliers(store, put):
    """Quotes 4 % apart in thin hours, days that move by a tenth, a crash to a third in minutes, and a 2:1 split."""
    random = np.random.default_rng(0)
    price, bars = 20.0, []
    for number, session in enumerate(CALENDARS[Kind.STOCKS].sessions[:60]):
        price *= {30: 0.5}.get(number, 1.0) * math.exp(random.normal(0, 0.1))
        midnight, prices = local(f"{session}"), []
        for minute in sorted(random.choice(range(240, 1200), 150, replace=False).tolist()):
            crash = 1 / 3 if number == 45 and minute > 700 else 1.0
            thin = minute < 570 or minute >= 960
            prices.append(price * crash * math.exp(random.normal(0, 0.02 if thin else 0.005)))
            bars.append(("X", "1m", midnight + timedelta(minutes=minute), at(prices[-1])))
        price, day = prices[-1], {"open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1]}
        bars.append(("X", "1d", midnight, day))
    put(*bars)
    for timeframe in (MINUTE_1, DAY_1):
        assert store.outliers(["X"], timeframe, CALENDARS[Kind.STOCKS], YEAR) == []


def test_outliers_are_named_with_what_is_usual_around_them(store, put):
    """Minutes are compared within their session and with the day, days with other days; the day after a split is neither."""
    put(
        *(
            ("AAPL", "1m", local(f"2024-06-0{day} 04:{minute:02}"), at(price))
            for day, price in ((6, 645), (7, 92.0))
            for minute in range(0, 20, 2)
        )
    )
    put(*(("AAPL", "1d", local(f"2024-06-{day:02}"), at(645 if day < 7 else 92.0)) for day in (3, 4, 5, 6, 7, 10)))
    put(("AAPL", "1m", local("2024-06-07 04:01"), at(92.0) | {"high": 645.57, "open": 645.57}))
    put(("AAPL", "1m", local("2024-06-07 04:03"), at(92.0) | {"low": 80.0}))
    put(("AAPL", "1m", local("2024-06-07 10:00"), at(92.0)), ("AAPL", "1m", local("2024-06-07 10:02"), at(92.0)))
    put(("AAPL", "1m", local("2024-06-07 10:01"), at(92.0) | {"low": 80.0}))
    put(("MSFT", "1m", local("2024-06-07 10:01"), at(92.0)), ("ZERO", "1d", local("2024-06-07"), {"low": 0.0}))
    found = store.outliers(["AAPL", "MSFT", "ZERO"], MINUTE_1, CALENDARS[Kind.STOCKS], YEAR)
    low, high = 92.0 * 0.999, 92.0 * 1.001
    assert [(o.symbol, o.at, o.value, o.lowest, o.highest) for o in found] == [
        ("AAPL", local("2024-06-07 04:01"), 645.57, low, high),
        ("AAPL", local("2024-06-07 10:01"), 80.0, low, high),
    ]
    assert store.outliers(["AAPL", "ZERO"], DAY_1, CALENDARS[Kind.STOCKS], YEAR) == []
    put(("MSFT", "1d", local("2024-06-05"), at(92.0)), ("MSFT", "1d", local("2024-06-06"), at(92.0) | {"low": 40.0}))
    (day,) = store.outliers(["MSFT"], DAY_1, CALENDARS[Kind.STOCKS], YEAR)
    assert (day.value, day.timeframe) == (40.0, "1d")
    assert (
        store.outliers(["AAPL"], MINUTE_1, CALENDARS[Kind.STOCKS], DayRange(date(2024, 6, 5), date(2024, 6, 6))) == []
    )


@pytest.mark.parametrize("kind", CALENDARS)
@pytest.mark.parametrize(
    ("price", "first", "last", "named"),
    [
        (920.0, 0, 390, True),
        (920.0, 240, 390, True),
        (9.2, 0, 240, True),
        (94.0, 0, 25, True),
        (93.5, 0, 390, False),  # within 2 % of the day's high
        (94.0, 0, 15, False),  # 15 of 390 minutes
        (920.0, -60, 0, False),
    ],
)
def test_a_session_with_prices_of_another_unit_or_symbol_is_named(store, put, kind, price, first, last, named):
    """Minutes of regular hours are compared with their own day; a half day's regular hours end at 13:00."""
    opens = local("2024-07-02 09:30", kind) if kind is Kind.STOCKS else local("2024-07-02 00:00", kind)
    minutes = [opens + timedelta(minutes=m) for m in range(-60, 390)]
    wrong = minutes[first + 60 : last + 60]
    put(("X", "1d", local("2024-07-02", kind), at(92.0)), ("X", "1d", local("2024-07-03", kind), at(920.0)))
    put(*(("X", "1m", m, at(price if m in wrong else 92.0)) for m in minutes))
    if kind is Kind.STOCKS:
        put(*(("X", "1m", local(f"2024-07-03 14:{m}"), at(92.0)) for m in range(10, 60)))
    put(*(("DAYLESS", "1m", m, at(price)) for m in minutes))
    found = store.outliers(["X", "DAYLESS"], MINUTE_1, CALENDARS[kind], YEAR)
    expected = [("X", wrong[0], price, 92.0 * 0.999, 92.0 * 1.001)] if named else []
    assert [(o.symbol, o.at, o.value, o.lowest, o.highest) for o in found] == expected


def at(price):
    return {"open": price, "high": price * 1.001, "low": price * 0.999, "close": price}
