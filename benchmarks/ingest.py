"""From a vendor's page to committed rows, against a raw COPY of the same rows in the same run.

Run it with `.venv/bin/python benchmarks/ingest.py`. It starts an embedded PostgreSQL of its own in a temporary folder.
"""

import statistics
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import psycopg

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.polygon import decode_page
from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.bars import BarStore, Terms
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.simulator import Simulator

FIRST, LAST = date(2026, 1, 5), date(2026, 3, 19)
ROUNDS = 9
RAW = """create table raw_bars (t timestamptz, o float8, h float8, l float8, c float8, v float8, vw float8, n int8,
  symbol text default 'RAW', timeframe text default '1m', primary key (symbol, timeframe, t))"""


def page() -> bytes:
    """About 50,000 minute bars as the vendor sends them."""
    with Simulator() as simulator:
        url = f"{simulator.url}/v2/aggs/ticker/AAPL/range/1/minute/{FIRST}/{LAST}"
        query = {"adjusted": "false", "limit": "50000", "sort": "asc"}
        return httpx.get(url, params=query, headers={"Authorization": "Bearer k"}, timeout=60).content


def main() -> None:
    """Print the medians and their ratio."""
    body = page()
    trading = calendar(Kind.STOCKS, DayRange(FIRST, LAST))
    zone = trading.hours.zone
    bars = decode_page(body).bars
    ours, again, raw = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.url()
        try:
            schema.upgrade(url)
            with BarStore(url) as store, psycopg.connect(url, autocommit=True) as connection:
                connection.execute(RAW)
                for number in range(ROUNDS):
                    for times, symbol in ((ours, f"S{number}"), (again, f"S{number}")):
                        begun = time.perf_counter()
                        answer = PageCutter(trading.sessions, zone).feed(decode_page(body).bars, more=False)
                        store.write(symbol, MINUTE_1, answer, Terms(zone, datetime.now(UTC)))
                        times.append(time.perf_counter() - begun)
                    connection.execute("truncate raw_bars")
                    begun = time.perf_counter()
                    with (
                        connection.cursor() as cursor,
                        cursor.copy("copy raw_bars (t, o, h, l, c, v, vw, n) from stdin (format binary)") as copy,
                    ):
                        copy.write(copy_block(bars))
                    raw.append(time.perf_counter() - begun)
        finally:
            server.stop()
    for name, times in (("new bars", ours), ("the same again", again), ("raw COPY", raw)):
        middle = statistics.median(times)
        print(f"{name:16} {middle * 1000:7.1f} ms  {len(bars) / middle:10,.0f} bars/s")
    print(
        f"new bars / raw COPY: {statistics.median(raw) / statistics.median(ours):.2f} of its rate, {len(bars):,} bars"
    )


if __name__ == "__main__":
    main()
