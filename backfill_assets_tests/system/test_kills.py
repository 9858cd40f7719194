"""`backfill run` is killed at random moments; run again, it leads to the tables of an undisturbed run."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.postgres import database_copy
from backfill_assets_tests.support import SOAK
from backfill_assets_tests.system.platform import wait_until
from backfill_assets_tests.system.sandbox import RANGE, Sandbox, most_in_a_second, sandbox

RATE = 20
SLOW = Scenario(faults=(Fault(kind="slow", seconds=0.1),))
COMMAND = ["run", "--features", *RANGE]
KILLS = 100 if SOAK else 2
REQUESTS = 6
LONGEST_SECONDS = 6.0
"""Enough to kill it after the last request too, while it derives bars, checks them or computes features."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, postgres_server: str, postgres_template: str) -> Iterator[dict]:
    """The tables of a run without faults."""
    with database_copy(postgres_server, postgres_template) as url, Simulator() as simulator:
        still = sandbox(simulator, tmp_path_factory.mktemp("undisturbed"), url)
        done = still.backfill(*COMMAND)
        assert done.returncode == 0, done.stderr
        yield still.tables()


def kill_at(broken: Sandbox, chance: random.Random) -> None:
    """Start the command, and kill it a random time after a random request."""
    after, pause = chance.randint(0, REQUESTS), chance.random() ** 2 * LONGEST_SECONDS
    before = len(broken.simulator.requests)
    with broken.start(*COMMAND) as process:
        wait_until(
            lambda: True if len(broken.simulator.requests) - before >= after or process.poll() is not None else None
        )
        time.sleep(pause)  # the moment is what the test varies
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.mark.parametrize("seed", range(KILLS))
def test_the_same_command_completes_a_killed_run(seed, tmp_path: Path, database_url: str, undisturbed) -> None:
    with Simulator(SLOW) as simulator:
        broken = sandbox(simulator, tmp_path, database_url, POLYGON_REQUESTS_PER_SECOND=str(RATE))
        kill_at(broken, random.Random(seed))  # noqa: S311  # repeatable, not secret
        again = broken.backfill(*COMMAND)
        assert again.returncode == 0, again.stderr
        assert broken.tables() == undisturbed
        assert broken.unfinished() == []
        assert most_in_a_second(simulator) <= RATE
