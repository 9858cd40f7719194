"""The database dies, is restarted, or runs out of disk under `backfill run`; the same command again makes it good."""

import os
import random
import re
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
from backfill_assets_tests.postgres import public_folder
from backfill_assets_tests.support import SOAK
from backfill_assets_tests.system.platform import BACKFILL, PROJECT, wait_until
from backfill_assets_tests.system.sandbox import Sandbox, most_in_a_second, sandbox

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

SEGMENT = 16 * 2**20
ROOM_BELOW_A_SEGMENT = 12 * 2**20
"""Bytes that are left where the log, which grows by whole segments of 16 MB, is to be the first that finds none."""

ANNOUNCED = re.compile(r"(stocks|crypto|AAPL|SPY|BTC)[: ]|\d+ requests? at ")
"""The lines that a run writes to standard error while nothing has failed."""


@pytest.fixture(scope="module")
def undisturbed() -> dict:
    """The tables of a run that nothing happened to."""
    with public_folder() as folder, Simulator() as simulator:
        still = embedded_world(simulator, folder)
        done = still.backfill(*COMMAND)
        assert done.returncode == 0, done.stderr
        tables = still.tables()
        EmbeddedPostgres(folder).stop()
    return tables


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a server of its own."""
    with public_folder() as made:
        yield made
        EmbeddedPostgres(made).stop()


def embedded_world(simulator: Simulator, folder: Path) -> Sandbox:
    """A world whose database is the embedded one of its data folder, as a new user's is."""
    url = EmbeddedPostgres(folder).url()
    made = sandbox(simulator, folder, "", UNIVERSE, POLYGON_REQUESTS_PER_SECOND=str(RATE))
    return Sandbox(simulator, url, made.variables)


def kill_server(folder: Path) -> None:
    """`kill -9` of the server and of all its sessions, as when a machine dies or its memory is used up."""
    postmaster = psutil.Process(int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    for process in (postmaster, *postmaster.children(recursive=True)):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def said_of_failure(stderr: str) -> str:
    """The one sentence that a run failed with, after what it had announced; nothing else may stand there."""
    *before, sentence = stderr.strip().splitlines()
    assert sentence.startswith("backfill: "), stderr
    assert not [line for line in before if not ANNOUNCED.match(line)], stderr
    return sentence


def made_good(broken: Sandbox, folder: Path, undisturbed: dict) -> None:
    """The same command again, and all is as if nothing had happened."""
    again = broken.backfill(*COMMAND)
    assert again.returncode == 0, again.stderr
    is_whole(broken, folder, undisturbed)


def is_whole(broken: Sandbox, folder: Path, undisturbed: dict) -> None:
    """What is stored is what an undisturbed run stores, nothing is left unfinished, and the rate was kept."""
    whole = Sandbox(broken.simulator, EmbeddedPostgres(folder).url(), broken.variables)
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
            said, stderr = ended(process)
        assert met, "the run was over before a COPY was seen"
        assert process.returncode == 1, said + stderr
        assert "cannot be used (" in said_of_failure(stderr)
        made_good(broken, folder, undisturbed)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a program said and complained of, once it has ended, which it must soon do by itself."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def all_ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Of each its code and what it said, once all have ended: also of the last, where the first was not as it should."""
    heard = []
    for process in processes:
        with process:
            said, stderr = ended(process)
        heard.append((process.returncode, said, stderr))
    return heard


def until_copying(connection: psycopg.Connection, process: subprocess.Popen[str]) -> bool:
    """Whether a COPY into the tables was seen before the program ended; it lasts a hundred times as long as a pause here."""
    while process.poll() is None:
        if connection.execute(COPYING).fetchone():
            return True
        time.sleep(0.002)
    return False


@pytest.mark.parametrize("seed", range(RESTARTS))
def test_a_server_that_is_restarted_under_three_runs(seed: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        started = [broken.start(*COMMAND, "--symbols", symbol) for symbol in SYMBOLS]
        wait_until(lambda: True if simulator.requests else None)
        time.sleep(random.Random(seed).random() * 2)  # the moment is what is tried here
        server = EmbeddedPostgres(folder)
        assert server.stop()
        server.url()
        for code, said, stderr in all_ended(started):
            if code:
                assert code == 1, said + stderr
                assert said_of_failure(stderr)
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
    with public_folder() as mount_point, small_disk(mount_point) as folder, Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        upgraded(broken)
        filler = filled(folder, ROOM)
        failed = broken.backfill(*COMMAND)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "No space left on device" in said_of_failure(failed.stderr)
        filler.unlink()
        made_good(broken, folder, undisturbed)


@pytest.mark.skipif(not SOAK, reason="over a minute of waiting for a server that is gone: `make soak`")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_a_disk_that_is_full_for_the_log_ends_the_server_and_the_next_command_says_why(undisturbed: dict) -> None:
    with public_folder() as mount_point, small_disk(mount_point) as folder, Simulator(SLOW) as simulator:
        broken = embedded_world(simulator, folder)
        upgraded(broken)
        with psycopg.connect(broken.database_url, autocommit=True) as connection:
            fill_segment(connection)
        filler = filled(folder, ROOM_BELOW_A_SEGMENT)
        failed = broken.backfill(*COMMAND)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "cannot be used (" in said_of_failure(failed.stderr)
        assert re.search(r"PANIC: .*No space left on device", (folder / "postgres" / "server.log").read_text())

        refused = broken.backfill(*COMMAND)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert "No space left on device" in said_of_failure(refused.stderr)

        filler.unlink()
        made_good(broken, folder, undisturbed)


def upgraded(broken: Sandbox) -> None:
    """The tables are made: while there is room, as it is the bars that are to find none."""
    subprocess.run([BACKFILL, "db", "upgrade"], cwd=PROJECT, env=broken.variables, check=True, capture_output=True)


def filled(folder: Path, room: int) -> Path:
    """The file that fills the disk of a folder but for `room` bytes."""
    free = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)
    return filler


def fill_segment(connection: psycopg.Connection) -> None:
    """Write to the server's log until less than a megabyte is left of its segment."""
    while True:
        (used,) = connection.execute("select (pg_current_wal_insert_lsn() - '0/0') %% %s", [SEGMENT]).fetchone()
        if SEGMENT - used < 2**20:
            return
        connection.execute("select pg_logical_emit_message(false, 'fill', repeat(md5(random()::text), 8000))")
