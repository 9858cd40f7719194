"""The database dies, is restarted, or runs out of disk under `backfill run`; the same command again makes it good.

What lives here: an embedded server of the test's own, with the settings that users have. What does not: a database that is
away when a sensor ticks (`sensors/test_without_database`).
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, until
from backfill_assets_tests.faults.world import SOAK, World, most_in_a_second, told_once, world
from backfill_assets_tests.postgres import open_folder

RATE = 20
SYMBOLS = ("AAPL", "SPY", "BTC")
UNIVERSE = """
markets:
  stocks: {start: 2026-07-06, symbols: [AAPL, SPY]}
  crypto: {start: 2026-09-04, symbols: [BTC]}
"""
COMMAND = ["run", "--start", "2026-07-06", "--end", "2026-09-11"]
"""A page of some 45,000 minutes for each stock, whose COPY lasts long enough to be met."""

SLOW = Scenario(faults=(Fault(kind="slow", seconds=0.3),))
COPYING = "select 1 from pg_stat_progress_copy where command = 'COPY FROM'"
KILLS = 20 if SOAK else 1
RESTARTS = 10 if SOAK else 1
ROOM = 6 * 2**20
"""Bytes that are left on the disk: the tables have begun to grow when they are used up."""


@pytest.fixture(scope="module")
def undisturbed() -> dict:
    """The tables of a run that nothing happened to."""
    with open_folder() as folder, Simulator() as simulator:
        still = embedded_world(simulator, folder)
        done = still.backfill(*COMMAND)
        assert done.returncode == 0, done.stderr
        tables = still.tables()
        EmbeddedPostgres(folder).stop()
    return tables


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a server of its own."""
    with open_folder() as made:
        yield made
        EmbeddedPostgres(made).stop()


def embedded_world(simulator: Simulator, folder: Path) -> World:
    """A world whose database is the embedded one of its data folder, as a new user's is."""
    url = EmbeddedPostgres(folder).url()
    made = world(simulator, folder, "", UNIVERSE, POLYGON_REQUESTS_PER_SECOND=str(RATE))
    return World(simulator, url, made.variables)


def kill_server(folder: Path) -> None:
    """`kill -9` of the server and of all its sessions, as when a machine dies or its memory is used up."""
    postmaster = psutil.Process(int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    for process in (postmaster, *postmaster.children(recursive=True)):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def made_good(broken: World, folder: Path, undisturbed: dict) -> None:
    """The same command again, and all is as if nothing had happened."""
    again = broken.backfill(*COMMAND)
    assert again.returncode == 0, again.stderr
    whole = World(broken.simulator, EmbeddedPostgres(folder).url(), broken.variables)
    assert whole.tables() == undisturbed
    assert whole.unfinished() == []
    assert most_in_a_second(broken.simulator) <= RATE


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_server_that_is_killed_in_a_copy(seed: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        with broken.start(*COMMAND) as process:
            with psycopg.connect(broken.database_url, autocommit=True) as connection:
                met = until_copying(connection, process)
            time.sleep(random.Random(seed).random() * 0.02)  # the moment within the COPY is what is tried here
            kill_server(folder)
            said, complained = ended(process)
        assert met, "the run was over before a COPY was seen"
        assert process.returncode == 1, said + complained
        assert told_once(complained), complained
        made_good(broken, folder, undisturbed)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a program said and complained of, once it has ended, which it must soon do by itself."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def until_copying(connection: psycopg.Connection, process: subprocess.Popen[str]) -> bool:
    """Whether a COPY into the tables was seen before the program ended; asked as fast as the server answers."""
    while process.poll() is None:
        if connection.execute(COPYING).fetchone():
            return True
    return False


@pytest.mark.parametrize("seed", range(RESTARTS))
def test_a_server_that_is_restarted_under_three_runs(seed: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        started = [broken.start(*COMMAND, "--symbols", symbol) for symbol in SYMBOLS]
        until(lambda: True if simulator.requests else None)
        time.sleep(random.Random(seed).random() * 2)  # the moment is what is tried here
        server = EmbeddedPostgres(folder)
        assert server.stop()
        server.url()
        for process in started:
            with process:
                said, complained = ended(process)
            assert process.returncode == 0 or told_once(complained), said + complained
        made_good(broken, folder, undisturbed)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own on the folder."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        EmbeddedPostgres(folder).stop()
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_a_disk_that_is_full(undisturbed: dict) -> None:
    with open_folder() as mount_point, small_disk(mount_point) as folder, Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        subprocess.run([BACKFILL, "db", "upgrade"], cwd=PROJECT, env=broken.variables, check=True, capture_output=True)
        free = os.statvfs(folder)
        filler = folder / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - ROOM)

        failed = broken.backfill(*COMMAND)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert told_once(failed.stderr), failed.stderr
        assert "No space left on device" in failed.stderr

        filler.unlink()
        made_good(broken, folder, undisturbed)
