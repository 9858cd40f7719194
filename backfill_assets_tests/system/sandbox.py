"""A sandbox for faults: a simulator, a database, `backfill` commands as processes, and the resulting tables."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from backfill_assets.simulator import Simulator
from backfill_assets_tests.support import rows
from backfill_assets_tests.system.platform import BACKFILL, PROJECT, environment, run_command

UNIVERSE = """
markets:
  stocks: {start: 2026-09-08, symbols: [AAPL, SPY]}
  crypto: {start: 2026-09-08, symbols: [BTC]}
"""
LAST = "2026-09-11"
RANGE = ["--start", "2026-09-08", "--end", LAST]

_VOLATILE = "array['ingested_at', 'computed_at', 'answered_at', 'id', 'first_seen', 'next_attempt_at', 'filled_at']"
TABLES = {
    "market_data": "true",
    "session_answers": "true",
    "coverage": "true",
    "market_features": "true",
    "backfill_gaps": f"not filled and gap_start <= '{LAST}'",
}


@dataclass(frozen=True)
class Sandbox:
    """The simulator, database and environment of one test's commands."""

    simulator: Simulator
    database_url: str
    variables: dict[str, str]

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        """Start a `backfill` command in a session of its own."""
        return subprocess.Popen(
            [BACKFILL, *arguments],
            cwd=PROJECT,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def backfill(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `backfill` command."""
        return run_command(self.variables, *arguments, start_new_session=True)

    def tables(self, *without: str) -> dict[str, list[tuple]]:
        """Return the number and digest of each table's rows by series, without columns that hold the time."""
        left_out = f"{_VOLATILE} || %s::text[]"
        return {
            name: rows(
                self.database_url,
                f"""select symbol, timeframe, count(*), md5(string_agg(content, ' ' order by content))
                    from (select symbol, timeframe, (to_jsonb(t) - ({left_out}))::text as content
                          from {name} t where {which}) s group by 1, 2 order by 1, 2""",  # noqa: S608  # our own names
                list(without),
            )
            for name, which in TABLES.items()
        }

    def unfinished(self) -> list[tuple]:
        """Return Dagster's runs that have not ended."""
        return rows(
            self.database_url,
            "select run_id, status from dagster.runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')",
        )


def sandbox(simulator: Simulator, data: Path, database_url: str, universe: str = UNIVERSE, **settings: str) -> Sandbox:
    """Make a sandbox over a running simulator."""
    return Sandbox(simulator, database_url, environment(simulator, data, database_url, universe, **settings))


def most_in_a_second(simulator: Simulator) -> int:
    """Return the most requests that arrived in any second (half-open windows that start at an arrival)."""
    times = sorted(r.monotonic for r in simulator.requests)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
