"""Ctrl-C or SIGTERM in the middle of `backfill run`."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.support import rows
from backfill_assets_tests.system.platform import BACKFILL, PROJECT, environment, is_midway, run_command, wait_until

UNIVERSE = "markets: {stocks: {start: 2026-08-03, symbols: [AAPL, SPY]}}"
DAYS = ["--start", "2026-09-08", "--end", "2026-09-11"]
STOPPED = "backfill: Stopped. Fetched data is kept; rerun to resume."


def interrupted(
    command: list[object], variables: dict[str, str], when: Callable[[], bool], name: signal.Signals, *, group: bool
) -> tuple[int, str, list[str]]:
    """Start a command and send it, or its process group, a signal once `when` is true; return exit code, stdout, stderr."""
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_until(lambda: when() or None)
            (os.killpg if group else os.kill)(process.pid, name)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, stdout, stderr.splitlines()


@pytest.mark.parametrize(
    ("name", "group"),
    [
        pytest.param(signal.SIGINT, True, id="Ctrl-C, which reaches the process group"),
        pytest.param(signal.SIGTERM, False, id="SIGTERM to the process"),
    ],
)
def test_an_interrupted_run_is_canceled_and_can_be_resumed(name, group, tmp_path: Path, database_url: str) -> None:
    slow = Scenario(faults=(Fault(kind="slow", path="/range/1/day/", seconds=30.0),))
    with Simulator(slow) as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE)
        command = [BACKFILL, "run", *DAYS, "--json"]
        heard = interrupted(command, variables, lambda: is_midway(simulator, database_url), name, group=group)
        assert heard == (130, "", [STOPPED])
        with psycopg.connect(database_url) as connection:
            assert connection.execute("select status from dagster.runs").fetchall() == [("CANCELED",)]
            stored = connection.execute("select distinct timeframe from market_data").fetchall()
        assert ("1m",) in stored
        assert ("1d",) not in stored

        simulator.scenario = Scenario()
        again = run_command(variables, *command[1:])
        assert again.returncode == 0, again.stderr
        minutes = [r for r in simulator.requests if "/AAPL/range/1/minute/" in r.path]
        assert len(minutes) == 1, "fetched data is not requested again"


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_command_interrupted_while_dagster_is_loaded_has_sent_nothing(
    name, tmp_path: Path, database_url: str
) -> None:
    """A connection to the database shows that it is planning; Dagster is loaded after that."""
    others = "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    with Simulator() as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE)
        command = [BACKFILL, "run", *DAYS]
        code, stdout, stderr = interrupted(
            command, variables, lambda: bool(rows(database_url, others)), name, group=False
        )
        assert (code, stdout, stderr[-1]) == (130, "", STOPPED), stderr
        assert simulator.requests == []
        with psycopg.connect(database_url) as connection:
            assert connection.execute("select to_regclass('dagster.runs')").fetchall() == [(None,)]
