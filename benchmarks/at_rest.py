"""The cost of the idle platform: `backfill up` with a filled store, observed for some minutes.

Prints the time until the Dagster UI responds, the share of a core that all processes use, ended ones too, and their memory
with shared pages counted once (PSS): median and maximum.

Run it with `.venv/bin/python benchmarks/at_rest.py`; `--minutes` sets the duration. It starts an embedded PostgreSQL and a
simulator, which are not counted.
"""

import argparse
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from common import (
    ALL_TIMEFRAMES,
    BACKFILL,
    PROJECT,
    backfill,
    environment,
    free_port,
    heading,
    market_tables,
    middle,
    symbols,
    vendor,
)

from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market

SETTLE_SECONDS = 45
"""Time for the first ticks and their runs, which is not measured."""

EVERY_SECONDS = 0.5


def of_platform(starter: psutil.Process) -> list[psutil.Process]:
    """`backfill up`, its services, and what they started."""
    return [starter, *starter.children(recursive=True)]


def observe(starter: psutil.Process, seconds: float) -> tuple[float, list[float]]:
    """Return the seconds of CPU that the platform used, and samples of its memory in MB."""
    used: dict[psutil.Process, tuple[float, float]] = {}
    memory = []
    start = time.monotonic()
    first = True
    while time.monotonic() - start < seconds:
        size = 0.0
        for process in of_platform(starter):
            with suppress(psutil.Error):
                times = process.cpu_times()
                now = times.user + times.system
                used[process] = (used[process][0] if process in used else now if first else 0.0, now)
                size += process.memory_full_info().pss / 2**20
        memory.append(size)
        first = False
        time.sleep(EVERY_SECONDS)
    return sum(last - begin for begin, last in used.values()), memory


def main() -> None:
    """Fill a small store, start the platform and observe it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=3)
    minutes = parser.parse_args().minutes
    market = Market(
        "stocks",
        Kind.STOCKS,
        datetime.now(UTC).date() - timedelta(days=7),
        symbols(("AAPL", "MSFT", "SPY")),
        ALL_TIMEFRAMES,
    )
    with market_tables() as url, vendor() as asked, tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        heading("backfill up, at rest", url)
        variables = environment(Path(folder), url, asked.url, [market], 100)
        backfill(variables, "run", "--features")
        port = free_port()
        start = time.perf_counter()
        with subprocess.Popen(
            [BACKFILL, "up", "--port", str(port)], cwd=PROJECT, env=variables, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Dagster UI: "):
                    break
            print(f"   Dagster UI responds after       {time.perf_counter() - start:6.1f} s")
            time.sleep(SETTLE_SECONDS)
            cpu, memory = observe(psutil.Process(process.pid), 60 * minutes)
            cpu /= minutes
            print(f"   CPU                              {cpu:6.1f} s a minute: {cpu / 0.6:.1f} % of a core")
            print(f"   memory                           {middle(memory):6.0f} MB, at most {max(memory):.0f} MB")
            process.send_signal(signal.SIGINT)
            process.wait(60)


if __name__ == "__main__":
    main()
