"""What every benchmark needs: a server of its own, the simulator as a process of its own, medians, and the heading.

Figures of two runs are not compared, for machine and load differ: what is to be compared is measured in one run, in turns,
and told as a ratio.
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
    """The URL of an empty database on an embedded server in a temporary folder, with the platform's own settings."""
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user
        server = EmbeddedPostgres(Path(folder))
        try:
            yield server.url()
        finally:
            server.stop()


@contextmanager
def market_tables() -> Iterator[str]:
    """The same, with the market tables made."""
    with postgres() as url:
        schema.upgrade(url)
        yield url


def another_database(url: str, name: str) -> str:
    """A further empty database on the server of `url`; one of that name is dropped before."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
        connection.execute(f'create database "{name}"')
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@dataclass(frozen=True)
class Vendor:
    """A simulator in a process of its own, so that its work is not done under our interpreter's lock."""

    url: str

    def arrivals(self) -> list[dict[str, object]]:
        """Every request so far, oldest first; `wall` is in seconds since 1970."""
        answer = httpx.get(f"{self.url}/_simulator/requests", timeout=60, trust_env=False)
        found: list[dict[str, object]] = answer.json()
        return found

    def forget(self) -> None:
        """Begin the log of requests anew."""
        httpx.post(f"{self.url}/_simulator/reset", timeout=60, trust_env=False).raise_for_status()


@contextmanager
def vendor(scenario: Scenario | None = None) -> Iterator[Vendor]:
    """A simulator, until the context ends."""
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
    """What a user would have exported for these markets; their universe file is written into the data folder."""
    data.mkdir(parents=True, exist_ok=True)
    told = {
        market.name: {
            "kind": market.kind.value,
            "start": market.start.isoformat(),
            "symbols": [s.name for s in market.symbols],
        }
        for market in markets
    }
    (data / "universe.yaml").write_text(json.dumps({"markets": told}), encoding="utf-8")  # JSON is YAML
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
    """Run the program as from a shell: when it was started (seconds since 1970), and how many seconds it took."""
    started, begun = time.time(), time.perf_counter()
    done = subprocess.run(
        [BACKFILL, *arguments], cwd=PROJECT, env=variables, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - begun
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return started, taken


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def symbols(names: Sequence[str]) -> tuple[Symbol, ...]:
    """Symbols of stocks by their tickers."""
    return tuple(Symbol(name, name) for name in names)


ALL_TIMEFRAMES = tuple(TIMEFRAMES.values())


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def milliseconds(work: Callable[[], object]) -> float:
    """The same in milliseconds."""
    return 1000 * seconds(work)


def middle(times: Sequence[float]) -> float:
    """The median."""
    return statistics.median(times)


def load() -> str:
    """How busy the machine is: processes that run or wait to, over the last minute."""
    return f"load {os.getloadavg()[0]:.1f}"


def heading(title: str, url: str | None = None) -> None:
    """Print what is measured, and on what; `url` is the database's, where there is one."""
    machine = platform.uname()
    print(f"== {title}")
    told = [f"{machine.system} {machine.release} {machine.machine}", f"{len(os.sched_getaffinity(0))} cores"]
    told.append(f"{psutil.virtual_memory().total / 2**30:.0f} GB")
    told.append(f"Python {platform.python_version()}")
    if url is not None:
        with psycopg.connect(url) as connection:
            row = connection.execute("show server_version").fetchone()
        told.append(f"PostgreSQL {str(row[0]).partition(' ')[0]}" if row else "")
    print(f"   {', '.join(told)}; {load()}", flush=True)
