"""What the platform costs while nothing is to be done: `backfill up` over a filled store, looked at for some minutes.

Told are the time until Dagit answers, the share of a core that all its processes use, ended ones too, and their memory,
shared pages counted once (PSS): the median, and the most at any moment.

Run it with `.venv/bin/python benchmarks/at_rest.py`; `--minutes` says for how long. It starts an embedded PostgreSQL and a
simulator of its own; those two are not counted.
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
"""So long the first ticks and what they launch may take; it is not counted."""

EVERY_SECONDS = 0.5


def of_platform(starter: psutil.Process) -> list[psutil.Process]:
    """`backfill up`, its services, and what they started."""
    return [starter, *starter.children(recursive=True)]


def watched(starter: psutil.Process, seconds: float) -> tuple[float, list[float]]:
    """Seconds of CPU that the platform used meanwhile, and its memory in MB at each look."""
    used: dict[psutil.Process, tuple[float, float]] = {}
    memory = []
    begun = time.monotonic()
    first = True
    while time.monotonic() - begun < seconds:
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
    """Fill a small store, start the platform, and look at it."""
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
        begun = time.perf_counter()
        with subprocess.Popen(
            [BACKFILL, "up", "--port", str(port)], cwd=PROJECT, env=variables, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Dagster UI: "):
                    break
            print(f"   Dagit answers after              {time.perf_counter() - begun:6.1f} s")
            time.sleep(SETTLE_SECONDS)
            cpu, memory = watched(psutil.Process(process.pid), 60 * minutes)
            cpu /= minutes
            print(f"   CPU                              {cpu:6.1f} s a minute: {cpu / 0.6:.1f} % of a core")
            print(f"   memory                           {middle(memory):6.0f} MB, at most {max(memory):.0f} MB")
            process.send_signal(signal.SIGINT)
            process.wait(60)


if __name__ == "__main__":
    main()
