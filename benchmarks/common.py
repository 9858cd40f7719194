"""Helpers of the benchmarks: servers, the simulator in a separate process, medians, and the heading.

Results of separate runs are not comparable, since machine and load differ. Variants are measured alternately in one run and
reported as a ratio.
"""

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.store import schema
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.simulator.scenario import Scenario, write

PROJECT = Path(__file__).resolve().parents[1]
BACKFILL = Path(sys.executable).parent / "backfill"
KEY = "a-key-for-benchmarks"


@contextmanager
def postgres() -> Iterator[str]:
    """Run an embedded server with its usual settings in a temporary folder; yield the URL of an empty database."""
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user
        server = EmbeddedPostgres(Path(folder))
        try:
            yield server.url()
        finally:
            server.stop()


@contextmanager
def market_tables() -> Iterator[str]:
    """Like `postgres`, with the market tables."""
    with postgres() as url:
        schema.upgrade(url)
        yield url


def another_database(url: str, name: str) -> str:
    """Create an empty database on the server of `url`, dropping one of that name; return its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
        connection.execute(f'create database "{name}"')
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@dataclass(frozen=True)
class Vendor:
    """A simulator in a separate process, so that it does not share the interpreter's lock."""

    url: str

    def arrivals(self) -> list[dict[str, object]]:
        """Return all requests, oldest first; `wall` is in seconds since 1970."""
        answer = httpx.get(f"{self.url}/_simulator/requests", timeout=60, trust_env=False)
        found: list[dict[str, object]] = answer.json()
        return found

    def forget(self) -> None:
        """Clear the log of requests."""
        httpx.post(f"{self.url}/_simulator/reset", timeout=60, trust_env=False).raise_for_status()


@contextmanager
def vendor(scenario: Scenario | None = None) -> Iterator[Vendor]:
    """Run a simulator."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        Path(file.name).write_bytes(write(scenario or Scenario()))
        command = [sys.executable, "-m", "backfill_assets.simulator", "--scenario", file.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield Vendor(process.stdout.readline().strip())
            finally:
                process.terminate()


def environment(
    data: Path, database_url: str, vendor_url: str, markets: Sequence[Market], rate: float
) -> dict[str, str]:
    """Return a user's environment variables for these markets, and write their universe file to the data folder."""
    data.mkdir(parents=True, exist_ok=True)
    listed = {
        market.name: {
            "kind": market.kind.value,
            "start": market.start.isoformat(),
            "symbols": [s.name for s in market.symbols],
        }
        for market in markets
    }
    (data / "universe.yaml").write_text(json.dumps({"markets": listed}), encoding="utf-8")  # JSON is YAML
    foreign = ("DAGSTER_", "BACKFILL_", "ALERT_", "POLYGON_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "DATABASE_URL": database_url,
        "BACKFILL_DATA_DIR": str(data),
        "BACKFILL_UNIVERSE": str(data / "universe.yaml"),
        "POLYGON_BASE_URL": vendor_url,
        "POLYGON_API_KEY": KEY,
        "POLYGON_REQUESTS_PER_SECOND": f"{rate:g}",
    }


def backfill(variables: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Run the program as from a shell; return its start (seconds since 1970) and duration (seconds)."""
    started, start = time.time(), time.perf_counter()
    done = subprocess.run(
        [BACKFILL, *arguments], cwd=PROJECT, env=variables, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - start
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return started, taken


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def symbols(names: Sequence[str]) -> tuple[Symbol, ...]:
    """Return symbols of stocks by ticker."""
    return tuple(Symbol(name, name) for name in names)


ALL_TIMEFRAMES = tuple(TIMEFRAMES.values())


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of the work in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def milliseconds(work: Callable[[], object]) -> float:
    """Return the duration of the work in milliseconds."""
    return 1000 * seconds(work)


def middle(times: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(times)


def load() -> str:
    """Return the load average of the last minute."""
    return f"load {os.getloadavg()[0]:.1f}"


def heading(title: str, url: str | None = None) -> None:
    """Print the title, the machine, and the version of the database at `url`."""
    machine = platform.uname()
    print(f"== {title}")
    facts = [f"{machine.system} {machine.release} {machine.machine}", f"{len(os.sched_getaffinity(0))} cores"]
    facts.append(f"{psutil.virtual_memory().total / 2**30:.0f} GB")
    facts.append(f"Python {platform.python_version()}")
    if url is not None:
        with psycopg.connect(url) as connection:
            row = connection.execute("show server_version").fetchone()
        facts.append(f"PostgreSQL {str(row[0]).partition(' ')[0]}" if row else "")
    print(f"   {', '.join(facts)}; {load()}", flush=True)
