"""A store of three weeks around a half day, a holiday, a split and dividends, written as a run writes it."""

from datetime import UTC, date, datetime

import numpy as np
import psycopg
import pytest

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.features import COLUMNS
from backfill_assets.domain.sessions import HOURS, Kind, calendar, count_by_session, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets_tests.postgres import database_copy

DAYS = DayRange(date(2024, 6, 23), date(2024, 7, 13))
HALF_DAY, HOLIDAY = date(2024, 7, 3), date(2024, 7, 4)
FETCHED = datetime(2024, 7, 15, 12, tzinfo=UTC)
KINDS = {"AAPL": Kind.STOCKS, "MSFT": Kind.STOCKS, "BTC": Kind.CRYPTO}
ACTIONS = [
    ("MSFT", "split", date(2024, 7, 10), 1, 4, None, None),  # a Wednesday
    ("MSFT", "dividend", date(2024, 7, 10), None, None, 0.5, "USD"),  # in new shares
    ("MSFT", "dividend", date(2024, 7, 2), None, None, 3.0, "USD"),
    ("MSFT", "dividend", date(2024, 7, 2), None, None, 1.0, None),
    ("MSFT", "dividend", date(2024, 7, 1), None, None, 2.0, "CAD"),  # not in the currency of the prices
    ("AAPL", "dividend", date(2024, 6, 28), None, None, 0.25, "USD"),
    ("AAPL", "split", date(2999, 1, 4), 1, 2, None, None),  # to come
]


def random_bars(stamps, rng, price=100.0):
    """Bars with prices of many digits; every ninth without a vwap, every eleventh without a trade count."""
    n = len(stamps)
    base = price * np.exp(np.cumsum(rng.normal(0, 0.003, n)))
    opened, closed = base, base * (1 + rng.normal(0, 0.003, n))
    high, low = (
        np.maximum(opened, closed) * (1 + rng.random(n) / 100),
        np.minimum(opened, closed) * (1 - rng.random(n) / 100),
    )
    vwap, trades = (high + low) / 2, rng.integers(1, 1000, n)
    vwap[::9], trades[::11] = np.nan, NO_TRADES
    return Bars(np.asarray(stamps), opened, high, low, closed, rng.random(n) * 1e5, vwap, trades)


def write(store, symbol, timeframe, bars, sessions, at=FETCHED):
    """Write complete sessions with what is derived from them."""
    kind = KINDS[symbol]
    zone = HOURS[kind].zone
    derived = tuple(t for t in TIMEFRAMES.values() if t.derived_from == timeframe.name)
    terms = WriteContext(zone, at, derived=derived, finished=tuple(calendar(kind, DAYS).sessions))
    counts = tuple(count_by_session(bars, sessions, zone))
    return store.write(symbol, timeframe, CompleteSessions(tuple(sessions), counts, bars), terms)


def minutes(kind, sessions, rng):
    """The starts of one of four minutes of the market's hours."""
    hours = HOURS[kind]
    first = hours.opens.hour * 60
    starts = day_starts(sessions, hours.zone)
    stamps = (starts[:, None] + 60_000 * np.arange(first, first + hours.minutes)).ravel()
    return stamps[(rng.random(len(stamps)) < 1 / 4) | np.isin(stamps, starts)]


def add_action(connection, symbol, kind, day, old, new, cash, currency, *, seen=FETCHED, withdrawn=None):
    connection.execute(
        """insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, cash_amount, currency, first_seen,
             changed_at, withdrawn_at)
           values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing""",
        [symbol, kind, day, old, new, cash, currency, seen, seen, withdrawn],
    )


@pytest.fixture(scope="session")
def filled(postgres_server, postgres_template):
    """The URL of the store. Tests that write to it use `copy`."""
    rng = np.random.default_rng(7)
    with database_copy(postgres_server, postgres_template) as url:
        with BarStore(url) as store:
            for symbol, kind in KINDS.items():
                sessions = calendar(kind, DAYS).sessions
                write(store, symbol, MINUTE_1, random_bars(minutes(kind, sessions, rng), rng), sessions)
                days = random_bars(day_starts(sessions, HOURS[kind].zone), rng, price=400.0)
                write(store, symbol, DAY_1, days, sessions)
        with psycopg.connect(url) as connection:
            for action in ACTIONS:
                add_action(connection, *action)
            columns = [c.name for c in COLUMNS]
            values = ["case when random() > 0.1 then random() * 100 end"] * len(columns)
            connection.execute(
                f"""insert into market_features (symbol, timeframe, timestamp, {", ".join(columns)})
                    select symbol, timeframe, timestamp, {", ".join(values)}
                    from market_data where extract(minute from timestamp) <> 7"""  # noqa: S608  # our own names
            )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield url
