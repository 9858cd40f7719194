"""A simulated vendor and a small market, and what a test reads back from the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import psycopg
import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar, Kind, calendar
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market, Symbol, Universe, default_ticker
from backfill_assets.simulator import Columns, Simulator

MOMENT = datetime(2025, 7, 1, 12, tzinfo=UTC)
"""The present of simulator and platform: a Tuesday, before New York's opening."""

PROJECT = Path(__file__).resolve().parents[1]

KEY = "sekrit-key-0123456789"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read settings with `environ` in place of this process's environment."""
    with mock.patch.object(os, "environ", dict(environ)):
        return Settings.read()


@pytest.fixture(scope="session")
def vendor_server() -> Iterator[Simulator]:
    """One simulator a session; ask for `vendor`."""
    with Simulator(now=lambda: MOMENT) as running:
        yield running


@pytest.fixture
def vendor(vendor_server: Simulator) -> Simulator:
    """A healthy vendor that nobody has asked anything."""
    vendor_server.reset()
    return vendor_server


def market(kind: str, *names: str, start: date = date(2024, 1, 2), timeframes: str = "1m 1d") -> Market:
    """A market of that kind and name."""
    symbols = tuple(Symbol(n, default_ticker(Kind(kind), n)) for n in names)
    return Market(kind, Kind(kind), start, symbols, tuple(TIMEFRAMES[t] for t in timeframes.split()))


def universe(*markets: Market) -> Universe:
    """A universe of these markets."""
    return Universe(markets)


def trading(kind: str = "stocks") -> Calendar:
    """The calendar of a kind of market, over all days that these tests use."""
    return calendar(Kind(kind), DayRange(date(2022, 1, 3), date(2026, 12, 31)))


def let_time_pass(url: str, by: timedelta = timedelta(days=1)) -> None:
    """Make every attempt so much older: by default so that whatever may be asked for again is due, and counts."""
    with psycopg.connect(url) as connection:
        connection.execute("update session_answers set answered_at = answered_at - %s", [by])


def rows(url: str, query: str, *values: object) -> list[tuple]:
    """The rows of a query."""
    with psycopg.connect(url) as connection:
        return connection.execute(query, values).fetchall()


def stored(url: str, symbol: str, timeframe: str) -> Bars:
    """The bars of a series as the table holds them, ascending."""
    found = rows(
        url,
        """select (extract(epoch from timestamp) * 1000)::int8, open, high, low, close, volume,
             coalesce(vwap, 'NaN'), coalesce(trades, -1)
           from market_data where symbol = %s and timeframe = %s order by timestamp""",
        symbol,
        timeframe,
    )
    columns = list(zip(*found, strict=True)) or [()] * 8
    whole = (0, 7)
    return Bars(*(np.array(c, np.int64 if i in whole else np.float64) for i, c in enumerate(columns)))


def same_bars(found: Bars, expected: Columns | Bars) -> None:
    """Assert that both are the same bars, to a billionth."""
    np.testing.assert_array_equal(found.timestamp, expected.t if isinstance(expected, Columns) else expected.timestamp)
    np.testing.assert_array_equal(found.trades, expected.trades)
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=0, err_msg=name)
