"""A month of 25 symbols in eight timeframes: ours, the former scripts' algorithm, and a loop over the vendor's client.

All three as programs from a shell, against the same simulator at the same limit of 2.5 requests a second; ours with
Dagster, checks and its own start. Their tables are compared row by row.

Run it with `.venv/bin/python benchmarks/former.py`; `--short` takes six symbols. It takes about seven minutes, most of them
asleep, and starts an embedded PostgreSQL of its own.
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
"""Relative. The vendor rounds the vwap to six decimals; made from minutes, it is not rounded."""


def theirs(way: str, url: str, database: str, names: list[str], packages: str = "") -> float:
    """How many seconds one of the other ways takes, start included."""
    command = [sys.executable, former_way.__file__, way, url, database, str(FIRST), str(LAST), *names]
    variables = os.environ | {"PYTHONPATH": packages}
    return seconds(lambda: subprocess.run(command, env=variables, check=True))


def table(url: str) -> dict[tuple[object, ...], tuple[float | None, ...]]:
    """The bars that begin within the range, New York's days."""
    terms = {"first": f"{FIRST} 00:00 America/New_York", "end": f"{LAST + timedelta(days=1)} 00:00 America/New_York"}
    with psycopg.connect(url) as connection:
        return {row[:3]: row[3:] for row in connection.execute(ROWS, terms)}


def same(one: tuple[float | None, ...], other: tuple[float | None, ...], close: float) -> bool:
    """Whether the values are equal, where both have one."""
    return all(
        a is None or b is None or abs(a - b) <= close * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )


def compared(ours: str, other: str) -> str:
    """How two tables differ, in a line."""
    mine, their = table(ours), table(other)
    lacking, more, shared = their.keys() - mine.keys(), mine.keys() - their.keys(), mine.keys() & their.keys()
    prices = sum(not same(mine[key][PRICES], their[key][PRICES], CLOSE) for key in shared)
    averages = sum(not same(mine[key][AVERAGES], their[key][AVERAGES], CLOSE_AVERAGE) for key in shared)
    without = sum(mine[key][5] is None and their[key][5] is not None for key in shared)
    return (
        f"{len(mine):,} bars here; only there {len(lacking)}, only here {len(more)}; "
        f"other prices or volume {prices}, other vwap {averages}, vwap only there {without}"
    )


def installed(folder: Path) -> str:
    """Where the vendor's client was put for this run."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder, CLIENT],
        check=True,
    )
    return str(folder)


def main() -> None:
    """Print requests, seconds and ratios of the three, and what their tables have in common."""
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
                    taken[way] = theirs(way, simulator.url, urls[way], names, packages)
                requests[way] = len(simulator.arrivals())
            print(f"{way:9} {requests[way]:4} requests  {taken[way]:7.1f} s   ({load()})", flush=True)
        least = requests["ours"] / RATE
        print(
            f"former / ours: {taken['former'] / taken['ours']:.1f} (aim: {AIM} or more); "
            f"official / ours: {taken['official'] / taken['ours']:.1f}"
        )
        print(f"ours / (requests / rate): {taken['ours'] / least:.2f}  ({least:.1f} s)")
        for way in ("former", "official"):
            print(f"ours and {way}: {compared(urls['ours'], urls[way])}")


if __name__ == "__main__":
    main()
