"""A month of 25 symbols in eight timeframes: this project, the baseline algorithm, and a loop over the vendor's client.

All three run as programs from a shell against the same simulator, limited to 2.5 requests a second; this project with
Dagster, checks and its start. Their tables are compared row by row.

Run it with `.venv/bin/python benchmarks/former.py`; `--short` uses six symbols. It takes about seven minutes, mostly
waiting, and starts an embedded PostgreSQL.
"""

import os
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import former_way
import psycopg
from common import (
    ALL_TIMEFRAMES,
    another_database,
    backfill,
    environment,
    heading,
    load,
    postgres,
    seconds,
    symbols,
    vendor,
)

from backfill_assets.adapters.store import schema
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.simulator.scenario import RateLimit, Scenario

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 30)
RATE = 2.5
NAMES = [f"S{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXY"]
CLIENT = "polygon-api-client==1.16.3"
AIM = 9

TOTALS = "select count(*) from market_data"
OTHERS = """
  select count(*) from market_data where not (
    symbol = any(%(symbols)s) and "timestamp" >= %(first)s and "timestamp" < %(end)s)"""
ROWS = """
  select symbol, timeframe, extract(epoch from "timestamp")::bigint, open, high, low, close, volume, vwap
  from market_data where "timestamp" >= %(first)s and "timestamp" < %(end)s"""
PRICES, AVERAGES = slice(0, 5), slice(5, 6)
CLOSE, CLOSE_AVERAGE = 1e-9, 1e-7
"""Relative tolerances. The vendor rounds vwap to six decimals, derived bars do not."""


def run_other(way: str, url: str, database: str, names: list[str], packages: str = "") -> float:
    """Return the duration of another way in seconds, with its start."""
    command = [sys.executable, former_way.__file__, way, url, database, str(FIRST), str(LAST), *names]
    variables = os.environ | {"PYTHONPATH": packages}
    return seconds(lambda: subprocess.run(command, env=variables, check=True))


def table(url: str) -> dict[tuple[object, ...], tuple[float | None, ...]]:
    """Return the bars that start within the range, in days of New York."""
    terms = {"first": f"{FIRST} 00:00 America/New_York", "end": f"{LAST + timedelta(days=1)} 00:00 America/New_York"}
    with psycopg.connect(url) as connection:
        return {row[:3]: row[3:] for row in connection.execute(ROWS, terms)}


def same(one: tuple[float | None, ...], other: tuple[float | None, ...], close: float) -> bool:
    """Return whether the values are equal or one is missing."""
    return all(
        a is None or b is None or abs(a - b) <= close * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )


def compared(ours: str, other: str) -> str:
    """Describe the differences of two tables."""
    mine, their = table(ours), table(other)
    missing, more, shared = their.keys() - mine.keys(), mine.keys() - their.keys(), mine.keys() & their.keys()
    prices = sum(not same(mine[key][PRICES], their[key][PRICES], CLOSE) for key in shared)
    averages = sum(not same(mine[key][AVERAGES], their[key][AVERAGES], CLOSE_AVERAGE) for key in shared)
    without = sum(mine[key][5] is None and their[key][5] is not None for key in shared)
    return (
        f"{len(mine):,} bars here; only there {len(missing)}, only here {len(more)}; "
        f"other prices or volume {prices}, other vwap {averages}, vwap only there {without}"
    )


def installed(folder: Path) -> str:
    """Install the vendor's client for this run; return the folder."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder, CLIENT],
        check=True,
    )
    return str(folder)


def main() -> None:
    """Print requests, seconds and ratios of the three, and compare their tables."""
    names = NAMES[:6] if "--short" in sys.argv else NAMES
    scenario = Scenario(known=tuple(names), rate_limit=RateLimit(requests=150, seconds=60))
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as scratch, postgres() as server:
        packages = installed(Path(scratch) / "client")
        heading(f"{len(names)} symbols x 8 timeframes, {FIRST} to {LAST}, {RATE:g} requests a second", server)
        taken, requests, urls = {}, {}, {}
        for way in ("ours", "official", "former"):
            urls[way] = another_database(server, way)
            with vendor(scenario) as simulator:
                if way == "ours":
                    market = Market("stocks", Kind.STOCKS, FIRST, symbols(names), ALL_TIMEFRAMES)
                    schema.upgrade(urls[way])
                    variables = environment(Path(scratch) / "data", urls[way], simulator.url, [market], RATE)
                    _, taken[way] = backfill(variables, "run", "--start", str(FIRST), "--end", str(LAST))
                else:
                    taken[way] = run_other(way, simulator.url, urls[way], names, packages)
                requests[way] = len(simulator.arrivals())
            print(f"{way:9} {requests[way]:4} requests  {taken[way]:7.1f} s   ({load()})", flush=True)
        least = requests["ours"] / RATE
        print(
            f"former / ours: {taken['former'] / taken['ours']:.1f} (aim: {AIM} or more); "
            f"official / ours: {taken['official'] / taken['ours']:.1f}"
        )
        print(f"ours / (requests / rate): {taken['ours'] / least:.2f}  ({least:.1f} s)")
        for way in ("former", "official"):
            print(f"this project and {way}: {compared(urls['ours'], urls[way])}")


if __name__ == "__main__":
    main()
