"""The overhead of a run: its start, its end, and what Dagster adds per partition.

A month of 25 symbols in eight timeframes at 100 requests a second, first with a new database, where Dagster creates its
tables, then with an existing one. Then the same work without Dagster in this process: fetching, the record of the run and
the queries of the checks. The difference, divided by the partitions, is Dagster's overhead.

Run it with `.venv/bin/python benchmarks/run_cost.py`; `--first 2026-08-19` has 6,000 partitions. It starts an embedded
PostgreSQL.
"""

import argparse
import asyncio
import tempfile
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
from common import ALL_TIMEFRAMES, KEY, backfill, environment, heading, load, market_tables, seconds, symbols, vendor

from backfill_assets.adapters.polygon.client import Polygon
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.runs import RunKind, RunStart
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets.pipelines.backfill_request import BackfillRequest, market_calendar
from backfill_assets.pipelines.gaps import Watched
from backfill_assets.pipelines.health import examine
from backfill_assets.pipelines.listings import expected, in_question, known_listings, look_up_stale
from backfill_assets.pipelines.ohlcv import fetch_missing
from backfill_assets.simulator.scenario import Scenario

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 30)
RATE = 100
AT_ONCE = 3
NAMES = [f"S{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXY"]
LAST_RUN = """
  select count(*) filter (where dagster_event_type = 'ASSET_MATERIALIZATION'),
    extract(epoch from max(timestamp) - min(timestamp) filter (where dagster_event_type = 'PIPELINE_START'))::float8
  from dagster.event_logs group by run_id order by max(id) desc limit 1"""
EMPTIED = "truncate market_data, session_answers, coverage, backfill_gaps, market_data_counts"


def clock() -> datetime:
    """The present."""
    return datetime.now(UTC)


async def without_dagster(url: str, vendor_url: str, market: Market, days: DayRange) -> None:
    """What the asset's body does, and nothing of Dagster."""
    now = clock()
    calendar = market_calendar(market, now.date())
    with BarStore(url, connections=AT_ONCE) as store:
        wanted = dict.fromkeys(market.symbols, calendar.within(days))
        request = BackfillRequest(market, calendar, wanted, market.timeframes, now).within(
            known_listings(store, market)
        )
        run = RunStart(str(uuid.uuid4()), RunKind.OHLCV, market.name, "a benchmark", now)
        async with (
            RateLimiter(url, per_second=RATE) as limiter,
            Polygon(KEY, base_url=vendor_url, limiter=limiter) as client,
        ):
            with recorded_run(store, run, clock) as record:
                fetch = fetch_missing(request, store, client, clock=clock, at_once=AT_ONCE)
                series = [one async for one in fetch]
                await look_up_stale(ListingStore.beside(store), client, in_question(request, series), clock)
                record.fetched(expected(store, request), series)
        examine(store, Watched(market, calendar, known_listings(store, market), Retries()), now, days)


def main() -> None:
    """Print start, end, and Dagster's overhead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=date.fromisoformat, default=FIRST)
    first = parser.parse_args().first
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as scratch, market_tables() as url:
        heading(f"{len(NAMES)} symbols x 8 timeframes, {first} to {LAST}", url)
        market = Market("stocks", Kind.STOCKS, first, symbols(NAMES), ALL_TIMEFRAMES)
        with vendor(Scenario(known=tuple(NAMES))) as simulator, psycopg.connect(url, autocommit=True) as connection:
            variables = environment(Path(scratch) / "data", url, simulator.url, [market], RATE)
            for which in ("new database", "with Dagster's tables"):
                connection.execute(EMPTIED)
                simulator.forget()
                started, taken = backfill(variables, "run", "--start", str(first), "--end", str(LAST))
                arrivals = [float(str(request["wall"])) - started for request in simulator.arrivals()]
                run: Any = connection.execute(LAST_RUN).fetchone()
                print(
                    f"{which:22} to the first request {min(arrivals):.1f} s, after the last {taken - max(arrivals):.1f} s, "
                    f"the run itself {run[1]:.1f} s: {run[0]:,} partitions   ({load()})"
                )
            connection.execute(EMPTIED)
            bare = seconds(lambda: asyncio.run(without_dagster(url, simulator.url, market, DayRange(first, LAST))))
            added = 1000 * (run[1] - bare) / run[0]
            print(f"without Dagster        {bare:.1f} s: Dagster adds {added:.2f} ms per partition   ({load()})")


if __name__ == "__main__":
    main()
