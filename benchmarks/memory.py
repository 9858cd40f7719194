"""The peak memory of `backfill run` over one, six and twelve months of minutes and derived bars.

The peak is the resident set of all processes of the run, sampled ten times a second.

Run it with `.venv/bin/python benchmarks/memory.py`; `--symbols 25` is a complete universe. It starts an embedded
PostgreSQL, which is not counted.
"""

import argparse
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import psutil
import psycopg
from common import (
    ALL_TIMEFRAMES,
    BACKFILL,
    PROJECT,
    another_database,
    environment,
    heading,
    load,
    postgres,
    symbols,
    vendor,
)

from backfill_assets.adapters.store import schema
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.simulator.scenario import Scenario

LAST = date(2026, 9, 30)
FIRST = {1: date(2026, 9, 1), 6: date(2026, 4, 1), 12: date(2025, 10, 1)}
LOOK_SECONDS = 0.1


def resident(process: psutil.Process) -> int:
    """Return the resident bytes of a process and its children."""
    held = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            held += each.memory_info().rss
    return held


def peak(variables: dict[str, str], *arguments: str) -> int:
    """Return the peak bytes while the program runs."""
    with subprocess.Popen(
        [BACKFILL, *arguments], cwd=PROJECT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        seen, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                seen = max(seen, resident(watched))
            time.sleep(LOOK_SECONDS)
    assert process.returncode == 0, process.returncode
    return seen


def main() -> None:
    """Print the peak of each period, and the ratio of the longest to the shortest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=2)
    names = [f"S{number:02}" for number in range(parser.parse_args().symbols)]
    peaks = {}
    with postgres() as url, vendor(Scenario(known=tuple(names))) as simulator:
        heading(f"peak memory of a run, {len(names)} symbols x {len(ALL_TIMEFRAMES)} timeframes", url)
        for months, first in FIRST.items():
            database = another_database(url, "memory")
            schema.upgrade(database)
            market = Market("stocks", Kind.STOCKS, first, symbols(names), ALL_TIMEFRAMES)
            with tempfile.TemporaryDirectory() as scratch, psycopg.connect(database) as connection:
                variables = environment(Path(scratch) / "data", database, simulator.url, [market], 250)
                peaks[months] = peak(variables, "run", "--start", str(first), "--end", str(LAST))
                row = connection.execute("select count(*) from market_data").fetchone()
            print(
                f"{months:3} months {peaks[months] / 2**20:7.0f} MiB, {row[0] if row else 0:,} bars   ({load()})",
                flush=True,
            )
    print(f"twelve months / one: {peaks[12] / peaks[1]:.2f}")


if __name__ == "__main__":
    main()
