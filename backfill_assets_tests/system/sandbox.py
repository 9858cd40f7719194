"""A small world to break: a simulator, a database, `backfill` as programs, and what the tables then say."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from backfill_assets.simulator import Simulator
from backfill_assets_tests.support import rows
from backfill_assets_tests.system.platform import BACKFILL, PROJECT, environment

UNIVERSE = """
markets:
  stocks: {start: 2026-09-08, symbols: [AAPL, SPY]}
  crypto: {start: 2026-09-08, symbols: [BTC]}
"""
LAST = "2026-09-11"
RANGE = ["--start", "2026-09-08", "--end", LAST]
SOAK = bool(os.environ.get("BACKFILL_SOAK"))
"""Whether the long forms run, as by `make soak`."""

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
    """Everything that a command needs, and nothing that another test has."""

    simulator: Simulator
    database_url: str
    variables: dict[str, str]

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        """A `backfill` of its own, in a session of its own."""
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
        """A `backfill` that is waited for."""
        with self.start(*arguments) as process:
            said, stderr = process.communicate(timeout=240)
        return subprocess.CompletedProcess([], process.returncode, said, stderr)

    def tables(self, *without: str) -> dict[str, list[tuple]]:
        """Of each table and series the number of rows and their digest, all columns but those that tell the time."""
        left_out = f"{_VOLATILE} || %s::text[]"
        return {
            name: rows(
                self.database_url,
                f"""select symbol, timeframe, count(*), md5(string_agg(told, ' ' order by told))
                    from (select symbol, timeframe, (to_jsonb(t) - ({left_out}))::text as told
                          from {name} t where {which}) s group by 1, 2 order by 1, 2""",  # noqa: S608  # our own names
                list(without),
            )
            for name, which in TABLES.items()
        }

    def unfinished(self) -> list[tuple]:
        """Dagster's runs that have not ended."""
        return rows(
            self.database_url,
            "select run_id, status from dagster.runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')",
        )


def sandbox(simulator: Simulator, data: Path, database_url: str, universe: str = UNIVERSE, **settings: str) -> Sandbox:
    """A world over a running simulator."""
    return Sandbox(simulator, database_url, environment(simulator, data, database_url, universe, **settings))


def most_in_a_second(simulator: Simulator) -> int:
    """The most requests that arrived in any second: windows that begin with an arrival, the last instant not included."""
    times = sorted(r.monotonic for r in simulator.requests)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def is_clean_error(stderr: str) -> bool:
    """Whether something was said, and no stack."""
    return bool(stderr.strip()) and "Traceback" not in stderr
