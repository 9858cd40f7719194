"""The database is killed, restarted or runs out of disk during `backfill run`; run again, the command completes the data."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.embedded_postgres.binaries import find_binaries
from backfill_assets.adapters.embedded_postgres.privileges import runner_for
from backfill_assets.adapters.postgres import RECONNECT_PAUSES
from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.postgres import ordinary_role, public_folder
from backfill_assets_tests.support import SOAK, unused_port
from backfill_assets_tests.system.platform import LONG_RETRY_PAUSE, backfill_up, wait_until
from backfill_assets_tests.system.sandbox import Sandbox, most_in_a_second, sandbox
from backfill_assets_tests.system.test_repair import sessions

RATE = 20
SYMBOLS = ("AAPL", "SPY", "BTC")
UNIVERSE = """
markets:
  stocks: {start: 2026-07-06, symbols: [AAPL, SPY]}
  crypto: {start: 2026-09-04, symbols: [BTC]}
"""
NEW_UNIVERSE = f"markets: {{stocks: {{start: {sessions(Kind.STOCKS, 3)[0]}, symbols: [AAPL, SPY]}}}}"
COMMAND = ["run", "--start", "2026-07-06", "--end", "2026-09-11"]
"""A page of some 45,000 minutes for each stock, whose COPY takes long enough to be interrupted."""

SLOW = Scenario(faults=(Fault(kind="slow", seconds=0.3),))
AT_REST = "select count(*) from pg_stat_activity where usename = 'backfill'"
COPYING = "select 1 from pg_stat_progress_copy where command = 'COPY FROM'"
KILLS = 20 if SOAK else 1
RESTARTS = 10 if SOAK else 1
ROOM = 6 * 2**20
"""Bytes that are left on the disk, enough for the tables to begin to grow."""

SEGMENT = 16 * 2**20
ROOM_BELOW_A_SEGMENT = 12 * 2**20
"""Bytes that are left so that the WAL, which grows by segments of 16 MB, is the first to run out of space."""

ANNOUNCED = re.compile(r"(stocks|crypto|AAPL|SPY|BTC)[: ]|\d+ requests? at |Waiting for the request rate")
"""The lines that a run writes to standard error unless something has failed permanently."""


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


@contextmanager
def standby(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Run a standby of the folder's server. Yields the URL of both, of which drivers take the one that can write, and a
    function that promotes it.
    """
    first, data, port = urlsplit(EmbeddedPostgres(folder).url()), folder / "postgres" / "standby", unused_port()
    binaries = find_binaries(os.environ)
    runner = runner_for(folder / "postgres", binaries.program("postgres"), os.environ)
    runner = replace(runner, environment={**runner.environment, "PGPASSWORD": first.password or ""})

    def run(name: str, *arguments: str | Path) -> None:
        with (folder / "standby.log").open("ab") as log:
            assert runner.run([binaries.program(name), *arguments], folder=folder / "postgres", log=log) == 0

    where = ("-h", str(first.hostname), "-p", str(first.port), "-U", str(first.username))
    run("pg_basebackup", *where, "-D", data, "-R", "-X", "stream", "-c", "fast")
    run("pg_ctl", "start", "-w", "-D", data, "-o", f"-p {port}")
    try:
        hosts = f"{first.netloc},{first.hostname}:{port}"
        url = first._replace(netloc=hosts, query="target_session_attrs=read-write").geturl()
        yield url, lambda: run("pg_ctl", "promote", "-w", "-D", data)
    finally:
        run("pg_ctl", "stop", "-m", "immediate", "-D", data)


@pytest.mark.skipif(not SOAK, reason="starts a second server: `make soak`")
@pytest.mark.parametrize("seconds", [2, 20], ids=["the run waits", "longer than it waits"])
def test_a_failover_to_a_standby(seconds: int, folder: Path, undisturbed: dict) -> None:
    with Simulator(SLOW) as simulator, standby(folder) as (url, promote):
        made = sandbox(simulator, folder, url, UNIVERSE, POLYGON_REQUESTS_PER_SECOND=str(RATE))
        upgrade(made)
        with made.start(*COMMAND) as process:
            wait_until(lambda: True if simulator.requests else None)
            kill_server(folder)
            time.sleep(seconds)  # as long as a failover takes, while nobody answers
            promote()
            stdout, stderr = ended(process)
        # Commits of the last moment may not have reached the standby: their sessions are missing then.
        assert process.returncode in ({0, 3} if seconds < sum(RECONNECT_PAUSES) else {1}), stdout + stderr
        if process.returncode == 1:
            assert "cannot be used (" in error_of(stderr)
        again = made.backfill(*COMMAND)
        assert again.returncode == 0, again.stderr
        assert made.tables() == undisturbed
        assert made.unfinished() == []
        assert most_in_a_second(simulator) <= RATE


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


def test_fifteen_connections_are_enough_for_the_platform_a_run_and_a_look(tmp_path: Path) -> None:
    few = {"max_connections": "15", "superuser_reserved_connections": "3"}
    with public_folder() as folder, Simulator() as simulator:
        server = EmbeddedPostgres(folder, extra_configuration=few)
        try:
            with (
                ordinary_role(server.url(), "backfill") as url,
                psycopg.connect(server.url(), autocommit=True) as owner,
            ):
                owner.execute(f"alter database {owner.info.dbname} owner to backfill")
                here = sandbox(simulator, tmp_path, url, NEW_UNIVERSE, **LONG_RETRY_PAUSE)
                upgrade(here)
                with backfill_up(simulator, here.variables):
                    for command in ("run", "features", "status"):
                        done = here.backfill(command)
                        assert done.returncode == 0, done.stderr
                    wait_until(lambda: True if owner.execute(AT_REST).fetchone() == (4,) else None)
                    with ExitStack() as stack:

                        def refused() -> subprocess.CompletedProcess[str] | None:
                            """Take every connection, also one that the platform has released since."""
                            with suppress(psycopg.OperationalError):
                                while True:
                                    stack.enter_context(psycopg.connect(url))
                            done = here.backfill("status")
                            return done if done.returncode else None

                        done = wait_until(refused)
                assert done.returncode == 1
                assert "raise the server's max_connections or the role's limit" in done.stderr
        finally:
            server.stop()
