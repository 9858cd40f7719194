"""The database is killed, restarted or runs out of disk during `backfill run`; run again, the command completes the data."""

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
from backfill_assets_tests.system.platform import wait_until
from backfill_assets_tests.system.sandbox import Sandbox, most_in_a_second, sandbox

RATE = 20
SYMBOLS = ("AAPL", "SPY", "BTC")
UNIVERSE = """
markets:
  stocks: {start: 2026-07-06, symbols: [AAPL, SPY]}
  crypto: {start: 2026-09-04, symbols: [BTC]}
"""
COMMAND = ["run", "--start", "2026-07-06", "--end", "2026-09-11"]
"""A page of some 45,000 minutes for each stock, whose COPY takes long enough to be interrupted."""

SLOW = Scenario(faults=(Fault(kind="slow", seconds=0.3),))
COPYING = "select 1 from pg_stat_progress_copy where command = 'COPY FROM'"
KILLS = 20 if SOAK else 1
RESTARTS = 10 if SOAK else 1
ROOM = 6 * 2**20
"""Bytes that are left on the disk, enough for the tables to begin to grow."""

SEGMENT = 16 * 2**20
ROOM_BELOW_A_SEGMENT = 12 * 2**20
"""Bytes that are left so that the WAL, which grows by segments of 16 MB, is the first to run out of space."""

ANNOUNCED = re.compile(r"(stocks|crypto|AAPL|SPY|BTC)[: ]|\d+ requests? at ")
"""The lines that a run writes to standard error while nothing has failed."""


@pytest.fixture(scope="module")
def undisturbed() -> dict:
    """The tables of a run without faults."""
    with public_folder() as folder, Simulator() as simulator:
        still = embedded_sandbox(simulator, folder)
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


def embedded_sandbox(simulator: Simulator, folder: Path) -> Sandbox:
    """Make a sandbox on the embedded server of its data folder."""
    url = EmbeddedPostgres(folder).url()
    made = sandbox(simulator, folder, "", UNIVERSE, POLYGON_REQUESTS_PER_SECOND=str(RATE))
    return Sandbox(simulator, url, made.variables)


def kill_server(folder: Path) -> None:
    """Kill the server and all its sessions."""
    postmaster = psutil.Process(int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    for process in (postmaster, *postmaster.children(recursive=True)):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def error_of(stderr: str) -> str:
    """Return the error of a run; assert that only progress, and Dagster's repetition of the error, precede it."""
    *before, sentence = stderr.strip().splitlines()
    repeated = f"Exception while writing logger call to event log: {sentence.removeprefix('backfill: ')}"
    before = [line for line in before if line != repeated]
    assert sentence.startswith("backfill: "), stderr
    assert not [line for line in before if not ANNOUNCED.match(line)], stderr
    return sentence


def assert_same_command_completes(broken: Sandbox, folder: Path, undisturbed: dict) -> None:
    """Run the command again; assert that tables, runs and rate are those of an undisturbed run."""
    again = broken.backfill(*COMMAND)
    assert again.returncode == 0, again.stderr
    restarted = Sandbox(broken.simulator, EmbeddedPostgres(folder).url(), broken.variables)
    assert restarted.tables() == undisturbed
    assert restarted.unfinished() == []
    assert most_in_a_second(broken.simulator) <= RATE


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_server_killed_during_copy(seed: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator:
        broken = embedded_sandbox(simulator, folder)
        with broken.start(*COMMAND) as process:
            with psycopg.connect(broken.database_url, autocommit=True) as connection:
                seen = until_copying(connection, process)
            time.sleep(random.Random(seed).random() * 0.02)  # noqa: S311  # the moment is what the test varies
            kill_server(folder)
            stdout, stderr = ended(process)
        assert seen, "the run ended before a COPY was seen"
        assert process.returncode == 1, stdout + stderr
        assert "cannot be used (" in error_of(stderr)
        assert_same_command_completes(broken, folder, undisturbed)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the output of a command, which must end by itself."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def all_ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return exit code and output of each command, after all have ended."""
    results = []
    for process in processes:
        with process:
            stdout, stderr = ended(process)
        results.append((process.returncode, stdout, stderr))
    return results


def until_copying(connection: psycopg.Connection, process: subprocess.Popen[str]) -> bool:
    """Return whether a COPY was seen before the command ended; a COPY takes a hundred times as long as a pause here."""
    while process.poll() is None:
        if connection.execute(COPYING).fetchone():
            return True
        time.sleep(0.002)
    return False


@pytest.mark.parametrize("seed", range(RESTARTS))
def test_a_server_restarted_during_three_runs(seed: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator:
        broken = embedded_sandbox(simulator, folder)
        started = [broken.start(*COMMAND, "--symbols", symbol) for symbol in SYMBOLS]
        wait_until(lambda: True if simulator.requests else None)
        time.sleep(random.Random(seed).random() * 2)  # noqa: S311  # the moment is what the test varies
        server = EmbeddedPostgres(folder)
        assert server.stop()
        server.url()
        for code, stdout, stderr in all_ended(started):
            if code:
                assert code == 1, stdout + stderr
                assert error_of(stderr)
        assert_same_command_completes(broken, folder, undisturbed)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system on the folder."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", folder],  # noqa: S607  # found on PATH, as by a user
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
        subprocess.run(["umount", folder], check=True)  # noqa: S607  # found on PATH, as by a user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_a_full_disk(undisturbed: dict) -> None:
    with public_folder() as mount_point, small_disk(mount_point) as folder, Simulator(SLOW) as simulator:
        broken = embedded_sandbox(simulator, folder)
        upgrade(broken)
        filler = fill_disk(folder, ROOM)
        failed = broken.backfill(*COMMAND)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "No space left on device" in error_of(failed.stderr)
        filler.unlink()
        assert_same_command_completes(broken, folder, undisturbed)


@pytest.mark.skipif(not SOAK, reason="waits over a minute for a dead server: `make soak`")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_the_next_command_reports_a_server_that_ended_because_the_disk_was_full(undisturbed: dict) -> None:
    with public_folder() as mount_point, small_disk(mount_point) as folder, Simulator(SLOW) as simulator:
        broken = embedded_sandbox(simulator, folder)
        upgrade(broken)
        with psycopg.connect(broken.database_url, autocommit=True) as connection:
            fill_segment(connection)
        filler = fill_disk(folder, ROOM_BELOW_A_SEGMENT)
        failed = broken.backfill(*COMMAND)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "cannot be used (" in error_of(failed.stderr)
        assert re.search(r"PANIC: .*No space left on device", (folder / "postgres" / "server.log").read_text())

        refused = broken.backfill(*COMMAND)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert "No space left on device" in error_of(refused.stderr)

        filler.unlink()
        assert_same_command_completes(broken, folder, undisturbed)


def upgrade(broken: Sandbox) -> None:
    """Make the tables while there is room."""
    broken.backfill("db", "upgrade").check_returncode()


def fill_disk(folder: Path, room: int) -> Path:
    """Fill the disk of a folder up to `room` bytes; return the file."""
    free = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)
    return filler


def fill_segment(connection: psycopg.Connection) -> None:
    """Write to the WAL until less than a megabyte is left of its segment."""
    while True:
        (used,) = connection.execute("select (pg_current_wal_insert_lsn() - '0/0') %% %s", [SEGMENT]).fetchone()
        if SEGMENT - used < 2**20:
            return
        connection.execute("select pg_logical_emit_message(false, 'fill', repeat(md5(random()::text), 8000))")
