"""The partition status of an OHLCV asset's page, for a small and a large universe.

The Dagster webserver runs with the platform's definitions and gets the page's GraphQL query. One materialization is
reported by Dagster's mutation and copied in the event log for all other sessions and symbols except the last session. The
first response reads all events, later ones Dagster's cache.

Run it with `.venv/bin/python benchmarks/asset_page.py`; `--large` adds 100 symbols x 5 years. It starts an embedded
PostgreSQL.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from common import (
    ALL_TIMEFRAMES,
    KEY,
    PROJECT,
    another_database,
    environment,
    free_port,
    heading,
    load,
    middle,
    milliseconds,
    postgres,
    symbols,
)

from backfill_assets.adapters.store import schema
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.universe import Market

ROUNDS = 7
PATH = ["stocks", "ohlcv_1d"]
START_SECONDS = 120

REPORT = """
  mutation Report($path: [String!]!, $partition: String!) {
    reportRunlessAssetEvents(eventParams: {
      eventType: ASSET_MATERIALIZATION, assetKey: {path: $path}, partitionKeys: [$partition]}) { __typename }
  }"""

STATUS = """
  query Page($path: [String!]!) {
    assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode {
      partitionStats { numMaterialized numPartitions }
      partitionKeysByDimension { name partitionKeys }
      assetPartitionStatuses { ... on MultiPartitionStatuses { ranges {
        primaryDimStartKey primaryDimEndKey
        secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions } } } } } } }
  }"""

COPIES = """
  insert into dagster.event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
  select e.run_id, replace(e.event, e.partition, p), e.dagster_event_type, e.timestamp, e.step_key, e.asset_key, p
  from dagster.event_logs e, unnest(%s::text[]) p
  where e.dagster_event_type = 'ASSET_MATERIALIZATION'"""


@contextmanager
def webserver(variables: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run the webserver; yield its URL."""
    port = free_port()
    place = ["-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with (
        (folder / "webserver.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "dagster_webserver", *place], env=variables, cwd=PROJECT, stdout=log, stderr=log
        ) as process,
    ):
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
            while not answers(url):
                assert process.poll() is None, (folder / "webserver.log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, "the webserver does not answer"
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Return whether the server responds."""
    try:
        return httpx.get(f"{url}/server_info", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def ask(url: str, query: str, **values: object) -> Any:
    """Return the data of a GraphQL query."""
    body = {"query": query, "variables": values}
    answer = httpx.post(f"{url}/graphql", json=body, timeout=600, trust_env=False).json()
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def measure(url: str, count: int, years: int) -> None:
    """Print the times of the first and later responses."""
    schema.upgrade(url)
    today = datetime.now(UTC).date()
    first = today - timedelta(days=365 * years)
    names = [f"S{number:03}" for number in range(count)]
    market = Market("stocks", Kind.STOCKS, first, symbols(names), ALL_TIMEFRAMES)
    with tempfile.TemporaryDirectory() as scratch:
        variables = environment(Path(scratch) / "data", url, "http://127.0.0.1:1", [market], 1)
        variables |= {"DAGSTER_HOME": str(PROJECT), "POLYGON_API_KEY": KEY}
        with webserver(variables, Path(scratch)) as dagit:
            filled = fill(url, dagit, sessions(first, today), names)
            cold = milliseconds(lambda: ask(dagit, STATUS, path=PATH))
            warm = [milliseconds(lambda: ask(dagit, STATUS, path=PATH)) for _ in range(ROUNDS)]
            stats = ask(dagit, STATUS, path=PATH)["assetNodeOrError"]["partitionStats"]
    assert stats["numMaterialized"] == filled, stats
    print(
        f"{count} symbols x {years} years, {stats['numPartitions']:,} partitions of {PATH[-1]}: "
        f"first response {cold:,.0f} ms, later {middle(warm):,.0f} ms   ({load()})",
        flush=True,
    )


def sessions(first: date, today: date) -> tuple[date, ...]:
    """Return the finished sessions of stocks except the last one."""
    return calendar(Kind.STOCKS, DayRange(first, today - timedelta(days=1))).sessions[:-1]


def fill(url: str, dagit: str, days: tuple[date, ...], names: list[str]) -> int:
    """Insert materializations of all cells; return their number."""
    keys = [f"{day}|{name}" for day in days for name in names]
    ask(dagit, REPORT, path=PATH, partition=keys[0])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(COPIES, [keys[1:]])
        connection.execute("vacuum analyze dagster.event_logs")
    return len(keys)


def main() -> None:
    """Measure both universes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    sizes = [(25, 2), (100, 5)] if parser.parse_args().large else [(25, 2)]
    with postgres() as url:
        heading("the asset page's partition status", url)
        for count, years in sizes:
            measure(another_database(url, "asset_page"), count, years)


if __name__ == "__main__":
    main()
