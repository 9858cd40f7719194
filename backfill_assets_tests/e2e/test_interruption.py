"""Ctrl-C in the middle of a real `backfill run`."""

import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, environment, in_the_middle, until

UNIVERSE = "markets: {stocks: {start: 2026-08-03, symbols: [AAPL, SPY]}}"
DAYS = ["--start", "2026-09-08", "--end", "2026-09-11"]


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_canceled_and_goes_on_from_there(name, tmp_path: Path, database_url: str) -> None:
    slow = Scenario(faults=(Fault(kind="slow", path="/range/1/day/", seconds=30.0),))
    with Simulator(slow) as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE)
        command = [BACKFILL, "run", *DAYS, "--json"]
        with subprocess.Popen(
            command, cwd=PROJECT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            until(lambda: in_the_middle(simulator, database_url) or None)
            process.send_signal(name)
            said, complained = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, ""), complained
        assert complained == "backfill: Stopped. What is stored stays; the same command goes on from there.\n"
        with psycopg.connect(database_url) as connection:
            assert connection.execute("select status from dagster.runs").fetchall() == [("CANCELED",)]
            stored = connection.execute("select distinct timeframe from market_data").fetchall()
        assert ("1m",) in stored
        assert ("1d",) not in stored

        simulator.scenario = Scenario()
        again = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        minutes = [r for r in simulator.requests if "/AAPL/range/1/minute/" in r.path]
        assert len(minutes) == 1, "what was answered is not asked for again"


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_dagster_is_still_loaded_it_has_begun_nothing(
    name, tmp_path: Path, database_url: str
) -> None:
    """The first requests are under way by then."""
    slow = Scenario(faults=(Fault(kind="slow", path="/range/", seconds=30.0),))
    with Simulator(slow) as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE)
        with subprocess.Popen(
            [BACKFILL, "run", *DAYS],
            cwd=PROJECT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until(lambda: True if simulator.requests else None)
            process.send_signal(name)
            said, complained = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, ""), complained
        assert (
            complained.splitlines()[-1]
            == "backfill: Stopped. What is stored stays; the same command goes on from there."
        )
        with psycopg.connect(database_url) as connection:
            assert connection.execute("select from market_data").fetchall() == []
