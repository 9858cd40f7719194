"""The status page's server under load: a backfill alone, and beside a hundred clients and a stream of ten million bars.

The backfill requests at a fixed rate from the simulator; its time with and without the load is compared, and the server's
memory before, during and after the stream.

Run it with `.venv/bin/python benchmarks/serving.py`; `--rows 1000000` is quicker. It starts an embedded PostgreSQL, the
simulator and the server.
"""

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import httpx
import psutil
import psycopg
from common import BACKFILL, KEY, PROJECT, free_port, heading, load, postgres, vendor

CLIENTS, PER_SECOND = 100, 5.0
UNIVERSE = """
markets:
  stocks: {{start: {start}, symbols: [{symbols}], timeframes: [1m, 5m, 1d]}}
"""
ROWS = """
insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
select 'HUGE', '1m', timestamptz '2005-01-03Z' + n * interval '1 minute', 100, 101, 99, 100.5, 1000, 100.2, 7, 'polygon'
from generate_series(1, %(rows)s) n
"""


def run(environment: dict[str, str], start: str, symbols: str, path: Path) -> float:
    """Run a backfill of a universe; return the seconds."""
    path.write_text(UNIVERSE.format(start=start, symbols=symbols), encoding="utf-8")
    began = time.perf_counter()
    done = subprocess.run([BACKFILL, "run"], env=environment, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode in {0, 3}, done.stderr
    return time.perf_counter() - began


class Load:
    """Clients that poll, and one that streams all rows; counts what they got."""

    def __init__(self, url: str, server: psutil.Process) -> None:
        self.url, self.server = url, server
        self.answers, self.errors, self.streamed, self.peak = 0, 0, 0, 0.0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.poll) for _ in range(CLIENTS)]
        self.threads += [threading.Thread(target=self.stream), threading.Thread(target=self.watch)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def poll(self) -> None:
        """Ask for the status every three seconds, as the page does."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            etag = ""
            while not self.ended.wait(3):
                try:
                    answer = client.get("/api/v1/status", headers={"If-None-Match": etag})
                    etag = answer.headers.get("etag", "")
                    self.errors += answer.status_code >= 400
                    self.answers += 1
                except httpx.HTTPError:
                    self.errors += 1

    def stream(self) -> None:
        """Read all bars of one symbol as Arrow."""
        query = {"symbols": "HUGE", "timeframe": "1m", "format": "arrow"}
        with httpx.stream("GET", f"{self.url}/api/v1/bars", params=query, timeout=900) as answer:
            for part in answer.iter_raw():
                self.streamed += len(part)

    def watch(self) -> None:
        """Keep the server's peak of memory, MB."""
        while not self.ended.wait(0.2):
            self.peak = max(self.peak, self.server.memory_info().rss / 1e6)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    heading(
        f"the status page's server: {CLIENTS} clients, {rows:,} bars streamed, a backfill at {PER_SECOND:g} a second"
    )
    with tempfile.TemporaryDirectory() as folder, postgres() as url, vendor() as server_of_bars:
        port, universe = free_port(), Path(folder) / "universe.yaml"
        environment = os.environ | {
            "DATABASE_URL": url,
            "DAGSTER_HOME": str(PROJECT),
            "BACKFILL_DATA_DIR": folder,
            "BACKFILL_UNIVERSE": str(universe),
            "POLYGON_API_KEY": KEY,
            "POLYGON_BASE_URL": server_of_bars.url,
            "POLYGON_REQUESTS_PER_SECOND": f"{PER_SECOND:g}",
        }
        names = "AAPL, MSFT, SPY, NVDA"
        subprocess.run([BACKFILL, "db", "upgrade"], env=environment, check=True, capture_output=True)
        with psycopg.connect(url) as connection:
            connection.execute(ROWS, {"rows": rows})
        alone = run(environment, "2024-01-02", names, universe)
        server = subprocess.Popen([BACKFILL, "serve", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            while True:
                try:
                    httpx.get(f"{address}/api/v1/status", timeout=60)
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            process = psutil.Process(server.pid)
            before = process.memory_info().rss / 1e6
            with psycopg.connect(url) as connection:
                connection.execute("delete from market_data where symbol <> 'HUGE'")
                for table in ("session_answers", "coverage", "feature_marks", "backfill_gaps"):
                    connection.execute(f"truncate {table}")
            with Load(address, process) as loaded:
                beside = run(environment, "2024-01-02", names, universe)
                while loaded.threads[-2].is_alive():
                    time.sleep(0.5)
            after = process.memory_info().rss / 1e6
        finally:
            server.terminate()
            server.wait(30)
    print(
        f"   backfill beside the load and alone: {beside:.1f} s against {alone:.1f} s: {beside / alone:.2f}; {load()}"
    )
    print(
        f"   {loaded.answers:,} answers to {CLIENTS} clients, {loaded.errors:,} errors; {loaded.streamed / 1e6:,.0f} MB sent"
    )
    print(f"   server: {before:.0f} MB before, {loaded.peak:.0f} MB at the most, {after:.0f} MB after")


if __name__ == "__main__":
    main()
