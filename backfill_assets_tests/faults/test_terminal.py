"""What a person does to a whole terminal: Ctrl-C to the process group, and a `backfill up` that is killed."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil

from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, in_the_middle, platform, until
from backfill_assets_tests.faults.world import RANGE, UNIVERSE, world


def test_ctrl_c_to_the_whole_process_group_says_one_sentence(tmp_path: Path, database_url: str) -> None:
    slow = Scenario(faults=(Fault(kind="slow", path="/range/1/day/", seconds=30.0),))
    with Simulator(slow) as simulator:
        broken = world(simulator, tmp_path, database_url)
        with broken.start("run", *RANGE, "--json") as process:
            until(lambda: in_the_middle(simulator, database_url) or None)
            os.killpg(process.pid, signal.SIGINT)
            said, complained = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, "")
        assert complained == "backfill: Stopped. What is stored stays; the same command goes on from there.\n"
        assert [status for _, status in broken.unfinished()] == []


def test_services_of_a_killed_up_are_ended_by_the_next_one(tmp_path: Path, database_url: str) -> None:
    with Simulator() as simulator:
        broken = world(simulator, tmp_path, database_url)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with subprocess.Popen(
            [BACKFILL, "up", "--port", str(port)],
            cwd=PROJECT,
            env=broken.variables,
            stdout=subprocess.PIPE,
            text=True,
        ) as killed:
            assert killed.stdout is not None
            until(lambda: True if killed.stdout.readline().startswith("Dagit: ") else None)
            orphans = psutil.Process(killed.pid).children()
            assert len(orphans) == 2
            killed.kill()
        assert all(o.is_running() for o in orphans)
        with platform(simulator, tmp_path, database_url, UNIVERSE) as again:
            assert not any(o.is_running() and o.status() != psutil.STATUS_ZOMBIE for o in orphans)
            assert (
                len(list((tmp_path / "services").iterdir())) == len(psutil.Process(again.process.pid).children()) == 2
            )
        assert list((tmp_path / "services").iterdir()) == []
