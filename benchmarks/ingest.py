"""From a vendor's page to committed rows, compared with a raw COPY of the same rows.

Run it with `.venv/bin/python benchmarks/ingest.py`. It starts an embedded PostgreSQL in a temporary folder.

The raw COPY sends the same bytes to an empty table like market_data, with its columns, defaults, primary key and indexes; the
narrow COPY to one with fewer columns and the series as defaults. CPU is that of this process and of the connection's server
process (in steps of 10 ms), without background writers; bars/s a core are bars / their sum.
"""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import httpx
import psutil
import psycopg
from common import heading, load, market_tables

from backfill_assets.adapters.polygon import decode_page
from backfill_assets.adapters.polygon.contradictions import Requested
from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.adapters.store.rows import SQL
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.simulator import Simulator

FIRST, LAST = date(2026, 1, 5), date(2026, 3, 19)
ROUNDS = 9
NARROW = """create table narrow_bars (t timestamptz, o float8, h float8, l float8, c float8, v float8, vw float8, n int8,
  symbol text default 'RAW', timeframe text default '1m', primary key (symbol, timeframe, t))"""
NARROW_COPY = "copy narrow_bars (t, o, h, l, c, v, vw, n) from stdin (format binary)"
SAME = "create table same_bars (like market_data including all)"
SAME_COPY = SQL["copy_bars"].replace("copy market_data", "copy same_bars")


def page() -> bytes:
    """Return about 50,000 minute bars as the vendor sends them."""
    with Simulator() as simulator:
        url = f"{simulator.url}/v2/aggs/ticker/AAPL/range/1/minute/{FIRST}/{LAST}"
        query = {"adjusted": "false", "limit": "50000", "sort": "asc"}
        return httpx.get(url, params=query, headers={"Authorization": "Bearer k"}, timeout=60).content


def measured(work: Callable[[], object], backend: psutil.Process) -> tuple[float, float, float]:
    """Return elapsed seconds, and the CPU seconds of this process and of the connection's server process."""
    before, ours, start = backend.cpu_times(), time.process_time(), time.perf_counter()
    work()
    passed, ours, after = time.perf_counter() - start, time.process_time() - ours, backend.cpu_times()
    return passed, ours, after.user + after.system - before.user - before.system


def rates(body: bytes) -> None:
    """Print the medians and their ratios."""
    trading = calendar(Kind.STOCKS, DayRange(FIRST, LAST))
    zone = trading.hours.zone
    requested = Requested.range("AAPL", MINUTE_1, FIRST, LAST)
    bars = decode_page(body).bars
    same, narrow = copy_block(bars, ("RAW", "1m", "polygon"), nulls=True), copy_block(bars)
    times: dict[str, list[tuple[float, float, float]]] = {}
    with market_tables() as url, BarStore(url, connections=1) as store, psycopg.connect(url, autocommit=True) as raw:
        heading("ingest: a page of minute bars to committed rows", url)
        raw.execute(NARROW)
        raw.execute(SAME)
        ours = backend_of(store)

        def ingest(symbol: str) -> None:
            bars = requested.checked(decode_page(body)).bars
            answer = PageCutter(trading.sessions, zone).feed(bars, more=False)
            store.write(symbol, MINUTE_1, answer, WriteContext(zone, datetime.now(UTC)))

        def copy(statement: str, block: bytes) -> None:
            with raw.cursor() as cursor, cursor.copy(statement) as sent:
                sent.write(block)

        theirs = psutil.Process(raw.info.backend_pid)
        for number in range(ROUNDS):
            name = f"S{number}"
            raw.execute("truncate narrow_bars, same_bars")
            for label, work, process in (
                ("new bars", lambda name=name: ingest(name), ours),
                ("the same again", lambda name=name: ingest(name), ours),
                ("raw COPY, same rows", lambda: copy(SAME_COPY, same), theirs),
                ("raw COPY, narrow", lambda: copy(NARROW_COPY, narrow), theirs),
            ):
                times.setdefault(label, []).append(measured(work, process))
    medians = {
        label: [statistics.median(column) for column in zip(*found, strict=True)] for label, found in times.items()
    }
    for label, (passed, own, served) in medians.items():
        print(
            f"{label:20} {passed * 1000:7.1f} ms  {len(bars) / passed:9,.0f} bars/s  CPU {own * 1000:6.1f} + "
            f"{served * 1000:6.1f} ms  {len(bars) / (own + served):9,.0f} bars/s a core"
        )
    new = medians["new bars"][0]
    for label in ("raw COPY, same rows", "raw COPY, narrow"):
        print(f"new bars / {label}: {medians[label][0] / new:.2f} of its rate")
    print(f"{len(bars):,} bars per page, {ROUNDS} rounds; {load()}", flush=True)


def backend_of(store: BarStore) -> psutil.Process:
    """Return the server process of the store's only connection."""
    row = store._transaction(lambda c: c.execute("select pg_backend_pid()").fetchone())  # noqa: SLF001 - not public
    return psutil.Process(row[0])


def main() -> None:
    """Fetch a page and measure storing it."""
    rates(page())


if __name__ == "__main__":
    main()
