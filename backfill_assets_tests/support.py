"""A simulated vendor, small markets, and queries of what was stored."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
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
"""The current time of simulator and platform: a Tuesday, before New York opens."""

PROJECT = Path(__file__).resolve().parents[1]

KEY = "sekrit-key-0123456789"

NASTY = "a\x1b[2J\x1b]0;mine\x07\x9b2J\u202eb\u200f<script>x</script>[red]c[/][l](http://x)@channel *d* `e`\r\nf\x00|g"
"""A vendor's text that would clear the screen, set the window's title, turn letters round, run, colour and notify."""

NASTY_SHOWN = "a [2J ]0;mine 2J b <script>x</script>[red]c[/][l](http://x)@channel *d* `e` f |g"

SOAK = bool(os.environ.get("BACKFILL_SOAK"))
"""Whether to run the long forms, as `make soak` does."""


def script(name: str) -> ModuleType:
    """Import a program of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read settings with `environ` in place of this process's environment."""
    with mock.patch.object(os, "environ", dict(environ)):
        return Settings.read()


@pytest.fixture(scope="session")
def vendor_server() -> Iterator[Simulator]:
    """One simulator for the session; tests use `vendor`."""
    with Simulator(now=lambda: MOMENT) as running:
        yield running


@pytest.fixture
def vendor(vendor_server: Simulator) -> Simulator:
    """A healthy vendor without any request so far."""
    vendor_server.reset()
    return vendor_server


def market(kind: str, *names: str, start: date = date(2024, 1, 2), timeframes: str = "1m 1d") -> Market:
    """Make a market named after its kind."""
    symbols = tuple(Symbol(n, default_ticker(Kind(kind), n)) for n in names)
    return Market(kind, Kind(kind), start, symbols, tuple(TIMEFRAMES[t] for t in timeframes.split()))


def universe(*markets: Market) -> Universe:
    """Make a universe of these markets."""
    return Universe(markets)


def trading_calendar(kind: str = "stocks") -> Calendar:
    """Return the trading calendar of a kind of market, over all days that the tests use."""
    return calendar(Kind(kind), DayRange(date(2022, 1, 3), date(2026, 12, 31)))


def backdate_answers(url: str, by: timedelta = timedelta(days=1)) -> None:
    """Make every recorded attempt older; by default old enough that a retry is due and counts."""
    with psycopg.connect(url) as connection:
        connection.execute("update session_answers set answered_at = answered_at - %s", [by])


def rows(url: str, query: str, *values: object) -> list[tuple]:
    """Return the rows of a query."""
    with psycopg.connect(url) as connection:
        return connection.execute(query, values).fetchall()


def stored_bars(url: str, symbol: str, timeframe: str) -> Bars:
    """Return the stored bars of a series, ascending."""
    found = rows(
        url,
        """select (extract(epoch from timestamp) * 1000)::int8, open, high, low, close, volume,
             coalesce(vwap, 'NaN'), coalesce(trades, -1)
           from market_data where symbol = %s and timeframe = %s order by timestamp""",
        symbol,
        timeframe,
    )
    columns = list(zip(*found, strict=True)) or [()] * 8
    return Bars(*(np.array(c, np.int64 if i in {0, 7} else np.float64) for i, c in enumerate(columns)))


def assert_same_bars(found: Bars, expected: Columns | Bars) -> None:
    """Assert that the bars are equal, prices and volumes to a relative 1e-9."""
    np.testing.assert_array_equal(found.timestamp, expected.t if isinstance(expected, Columns) else expected.timestamp)
    np.testing.assert_array_equal(found.trades, expected.trades)
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=0, err_msg=name)


def unused_port() -> int:
    """Return a port of this machine that no server listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
