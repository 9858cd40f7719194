"""What a run costs beside its requests: from the shell to the first request, and from the last request to the end.

A month of 25 symbols in eight timeframes at 100 requests a second, twice: into a new database, where Dagster first makes its
tables, and into one that has them. The second part holds storing the last pages, the checks, and Dagster's events, one a
partition.

Run it with `.venv/bin/python benchmarks/run_cost.py`; `--first 2026-08-19` makes it 6,000 partitions. It starts an embedded
PostgreSQL of its own.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

import psycopg
from common import ALL_TIMEFRAMES, backfill, environment, heading, load, market_tables, symbols, vendor

from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.simulator.scenario import Scenario

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 30)
NAMES = [f"S{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXY"]
MATERIALIZATIONS = "select count(*) from dagster.event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"


def main() -> None:
    """Print both times, and the second for each partition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=date.fromisoformat, default=FIRST)
    first = parser.parse_args().first
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as scratch, market_tables() as url:
        heading(f"{len(NAMES)} symbols x 8 timeframes, {first} to {LAST}", url)
        market = Market("stocks", Kind.STOCKS, first, symbols(NAMES), ALL_TIMEFRAMES)
        with vendor(Scenario(known=tuple(NAMES))) as simulator, psycopg.connect(url, autocommit=True) as connection:
            variables = environment(Path(scratch) / "data", url, simulator.url, [market], 100)
            before = 0
            for which in ("new database", "with Dagster's tables"):
                connection.execute("truncate market_data, session_answers, coverage, backfill_gaps")
                simulator.forget()
                started, taken = backfill(variables, "run", "--start", str(first), "--end", str(LAST))
                arrivals = [float(str(request["wall"])) - started for request in simulator.arrivals()]
                row = connection.execute(MATERIALIZATIONS).fetchone()
                partitions = (row[0] if row else 0) - before
                before += partitions
                rest = taken - max(arrivals)
                print(
                    f"{which:22} to the first request {min(arrivals):.1f} s, after the last {rest:.1f} s: "
                    f"{1000 * rest / partitions:.2f} ms a partition of {partitions:,}   ({load()})"
                )


if __name__ == "__main__":
    main()
