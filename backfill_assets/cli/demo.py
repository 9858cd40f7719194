"""`backfill demo`: fill a small universe from the simulator."""

from __future__ import annotations

import os
import sys

from backfill_assets.adapters import database
from backfill_assets.adapters.embedded_postgres import psql_command
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.options import Options
from backfill_assets.cli.profile import demo_profile
from backfill_assets.cli.run import run_command


def demo_command() -> int:
    """Run `backfill demo` and return its exit code."""
    with demo_profile():
        sys.stdout.write("A small universe from a simulator of Polygon: the bars are made up.\n")
        sys.stdout.flush()
        code = run_command(Options())
        sys.stdout.write(_directions(database.locate(Settings.read()), _program()))
    return code


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
