"""A whole platform on the embedded server, started in a shell whose PG… variables are meant for another one."""

import subprocess

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.simulator import Simulator
from backfill_assets_tests.adapters.test_database import CHANGING, HARMFUL
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, platform, until
from backfill_assets_tests.postgres import open_folder

UNIVERSE = "markets: {crypto: {start: 2026-08-03, symbols: [BTC], timeframes: [1d]}}"
RUNS = "{ runsOrError { ... on Runs { results { jobName status tags { key value } } } } }"


def test_a_command_dagit_and_the_daemons_runs_use_the_embedded_server() -> None:
    with open_folder() as data, Simulator() as simulator:
        try:
            with platform(simulator, data, "", UNIVERSE, **HARMFUL, **CHANGING) as running:
                command = [BACKFILL, "run", "--start", "2026-09-08", "--end", "2026-09-09"]
                done = subprocess.run(
                    command, cwd=PROJECT, env=running.environment, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr

                def measured() -> str | None:
                    runs = running.ask(RUNS)["runsOrError"]["results"]
                    ended = [r["status"] for r in runs if r["jobName"] == "crypto_completeness_job"]
                    return next((status for status in ended if status in {"SUCCESS", "FAILURE"}), None)

                assert until(measured) == "SUCCESS", "a run that the daemon launched after that of the command"
        finally:
            EmbeddedPostgres(data).stop()
