"""`backfill demo`: fetch a small universe from the simulator, with a data folder of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backfill_assets.adapters import database
from backfill_assets.adapters.embedded_postgres import psql_command
from backfill_assets.adapters.private_files import make_data_folder, write_private
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.options import Options
from backfill_assets.cli.run import run_command
from backfill_assets.simulator import Dividend, Scenario, Simulator, Split

_REPLACED = (
    "DAGSTER_HOME",
    "DATABASE_URL",
    "POLYGON_REQUESTS_PER_SECOND",
    "POLYGON_BASE_URL",
    "POLYGON_API_KEY",
    "BACKFILL_UNIVERSE",
    "BACKFILL_DATA_DIR",
    "ALERT_URLS",
    "ALERT_REPEAT_HOURS",
    "DAGSTER_UI_URL",
    "DAGIT_URL",
)
"""Unset for the demo: their values are for real data, and may be wrong."""

DAYS = 30
"""How far back the first demo goes."""

_UNIVERSE = """# The universe of `backfill demo`: made-up bars of real symbols, from the simulator.
markets:
  stocks: {{start: {start}, symbols: [AAPL, SPY, MSFT]}}
  crypto: {{start: {start}, symbols: [BTC, ETH]}}
"""


def demo_command() -> int:
    """Run `backfill demo` and return its exit code."""
    with demo_profile():
        sys.stdout.write("A small universe from a simulator of Polygon: the bars are made up.\n")
        sys.stdout.flush()
        code = run_command(Options())
        sys.stdout.write(_directions(database.locate(Settings.read()), _program()))
    return code


@contextmanager
def demo_profile() -> Iterator[None]:
    """Start a simulator and set this process's environment for it until the context ends; child processes inherit it.

    The resources of a run and Dagster's storage read `os.environ` when they are used, so a copy would not do.
    """
    before = dict(os.environ)
    for name in _REPLACED:
        os.environ.pop(name, None)
    try:
        project = Settings.read().project
        universe = _universe(project / ".demo")
        with Simulator(_scenario(datetime.now(UTC).date())) as simulator:
            os.environ.update(
                DAGSTER_HOME=str(project),
                BACKFILL_DATA_DIR=str(project / ".demo"),
                BACKFILL_UNIVERSE=str(universe),
                POLYGON_BASE_URL=simulator.url,
                POLYGON_API_KEY="demo",
            )
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _scenario(today: date) -> Scenario:
    """Return monthly splits and dividends of the last year, on the same days whenever the demo is run.

    KO is not in the demo's universe: Polygon lists the splits of the complete market.
    """
    days = [
        _second_wednesday(today.year - (today.month <= back), (today.month - back - 1) % 12 + 1) for back in range(12)
    ]
    return Scenario(
        splits=tuple(Split(ticker="KO", execution_date=day, split_to=2) for day in days),
        dividends=tuple(Dividend(ticker="AAPL", ex_dividend_date=day, cash_amount=0.25, frequency=12) for day in days),
    )


def _second_wednesday(year: int, month: int) -> date:
    eighth = date(year, month, 8)
    return eighth + timedelta(days=(2 - eighth.weekday()) % 7)


def _universe(folder: Path) -> Path:
    """Return the path of the demo's universe file, written once so that its first day stays the same."""
    path = folder / "universe.yaml"
    if not path.exists():
        start = datetime.now(UTC).date() - timedelta(days=DAYS)
        write_private(make_data_folder(folder) / path.name, _UNIVERSE.format(start=start).encode())
    return path


def _program() -> str:
    """Return how to call this program from the working folder."""
    beside = os.path.join(os.path.dirname(sys.executable), "backfill")  # noqa: PTH118, PTH120  # must not follow links
    return os.path.relpath(beside) if os.path.exists(beside) else "backfill"  # noqa: PTH110  # the same


def _directions(url: str, program: str) -> str:
    query = "select symbol, timeframe, count(*), max(timestamp) from market_data group by 1, 2 order by 1, 2"
    return f"""
The bars are in PostgreSQL:
  {psql_command(url)} -c '{query}'

See them in the Dagster UI (Dagit) at http://127.0.0.1:3000:
  {program} up --demo

With your own key, real bars of the symbols in backfill_assets/universe.yaml:
  export POLYGON_API_KEY=…
  {program} run --days 30
  {program} up
"""
