"""The embedded server: tests start real servers, and stop those they started."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from filelock import FileLock

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres, binaries, find_psql, processes, server
from backfill_assets.domain.errors import DatabaseUnavailable, EmbeddedServerError
from backfill_assets_tests.postgres import FAST, public_folder

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="requires root")
DEADLINE = 20.0
KEEP = ("drop table if exists kept", "create table kept (n int)", "insert into kept values (7)")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that does not exist yet; its server is stopped afterwards."""
    with public_folder() as parent:
        yield parent / ".backfill"
        for home in parent.rglob("postgres"):
            if home.is_dir() and (home / "data" / "postmaster.pid").exists():
                EmbeddedPostgres(home.parent).stop()


@pytest.fixture(scope="module")
def pristine() -> Iterator[Path]:
    """A stopped cluster to copy, for tests that do not need a new one."""
    with public_folder() as parent:
        created = EmbeddedPostgres(parent / ".backfill", extra_configuration=FAST)
        created.url()
        created.stop()
        yield created.folder


@pytest.fixture(scope="module")
def shared_folder(pristine: Path) -> Iterator[Path]:
    with public_folder() as parent:
        shutil.copytree(pristine, parent / ".backfill")
        yield parent / ".backfill"
        EmbeddedPostgres(parent / ".backfill").stop()


@pytest.fixture
def embedded(shared_folder: Path) -> EmbeddedPostgres:
    """A server that tests share, running or not. They may kill it but not damage it: the next test starts it again."""
    return EmbeddedPostgres(shared_folder, extra_configuration=FAST)


@pytest.fixture
def own(folder: Path, pristine: Path) -> EmbeddedPostgres:
    """A stopped server that the test may damage."""
    shutil.copytree(pristine, folder)
    return EmbeddedPostgres(folder, extra_configuration=FAST)


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "postgres/data/postmaster.pid").read_text().split("\n")[0]))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def kill_postmaster(folder: Path) -> int:
    """Send SIGKILL, as the kernel does without memory; return the pid."""
    process = postmaster(folder)
    process.send_signal(signal.SIGKILL)
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    return process.pid


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def url_in_another_process(folder: Path) -> str:
    return EmbeddedPostgres(folder, extra_configuration=FAST).url()


@contextmanager
def listener(port: int) -> Iterator[None]:
    """Listen on the port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield


@contextmanager
def changed(file: Path, text: str | None) -> Iterator[None]:
    """Replace the text of the file, or remove the file; restore it afterwards."""
    kept = file.rename(file.with_name("kept"))
    try:
        if text is not None:
            file.write_text(text)
            shutil.copymode(kept, file)
        yield
    finally:
        kept.replace(file)


# --- Start and stop


def test_a_new_folder_with_spaces_and_accents(folder):
    server = EmbeddedPostgres(folder / "été à Paris, 100 $HOME 'x'")
    assert not server.running()
    assert not server.stop()
    assert not server.folder.exists()  # checking creates nothing

    url = server.url()

    assert url.startswith("postgresql://postgres:")
    assert url.endswith("/market")
    assert server.running()
    assert server.url() == url
    home = server.folder / "postgres"
    assert (home / "url").read_text() == url
    assert mode(home) == 0o700
    for name in ("url", "password", "server.log", "control.log", "lock", "alive", "data/embedded.conf"):
        assert mode(home / name) == 0o600, name
    assert server.stop()
    assert not server.running()
    assert not server.stop()


def test_settings(embedded):
    url = embedded.url()
    expected = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "wal_compression": "pglz",  # what `on` means
        "TimeZone": "UTC",
        "password_encryption": "scram-sha-256",
        "scram_iterations": "1",
        "server_encoding": "UTF8",
        "fsync": "off",
    }
    assert {name: ask(url, f'show "{name}"') for name in expected} == expected
    assert ask(url, "select datcollate from pg_database where datname = 'market'") == "C"


def test_a_password_is_required_and_not_stretched(embedded):
    url = embedded.url()
    verifier = ask(url, "select rolpassword from pg_authid where rolname = 'postgres'")
    assert str(verifier).startswith("SCRAM-SHA-256$1:")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace("postgres:", "postgres:not-", 1))


def test_settings_of_the_user_survive_a_start(embedded):
    embedded.stop()
    file = embedded.folder / "postgres/data/postgresql.conf"
    with changed(file, file.read_text() + "max_connections = 50\n"):
        assert ask(embedded.url(), "show max_connections") == "50"
        embedded.stop()


def test_setting_values_are_quoted(embedded):
    embedded.stop()
    server = EmbeddedPostgres(embedded.folder, extra_configuration={**FAST, "cluster_name": "it's a \\ test"})
    assert ask(server.url(), "show cluster_name") == "it's a \\ test"
    server.stop()


def test_data_and_port_survive_a_restart(embedded):
    url = embedded.url()
    run(url, *KEEP)
    embedded.stop()
    assert embedded.url() == url
    assert ask(url, "select n from kept") == 7


def test_url_without_start_starts_nothing(embedded):
    embedded.stop()
    with pytest.raises(DatabaseUnavailable, match="is not running: start it, or set DATABASE_URL"):
        embedded.url(start=False)
    assert not embedded.running()
    url = embedded.url()
    assert embedded.url(start=False) == url


def test_a_busy_server_is_usable(embedded):
    embedded.stop()
    few = {**FAST, "max_connections": "4", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    server = EmbeddedPostgres(embedded.folder, extra_configuration=few)
    url = server.url()
    with ExitStack() as connections:

        def connect_often() -> None:
            for _ in range(5):
                connections.enter_context(psycopg.connect(url))

        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            connect_often()
        assert server.url() == url
    server.stop()


# --- Processes


def test_the_server_survives_ctrl_c_in_the_process_that_started_it(embedded):
    embedded.stop()
    script = (
        "import sys, time; from pathlib import Path; from backfill_assets.adapters.embedded_postgres import *\n"
        "print(EmbeddedPostgres(Path(sys.argv[1])).url(), flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, embedded.folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        os.killpg(starter.pid, signal.SIGINT)  # as a terminal does
        # end of file: no child of the starter keeps its output open
        assert starter.stdout.read() == ""
    assert starter.returncode == -signal.SIGINT
    assert os.getsid(postmaster(embedded.folder).pid) != starter.pid
    assert ask(url, "select 1") == 1


def test_the_server_inherits_only_its_lock(embedded):
    embedded.stop()
    with (embedded.folder / "of the caller").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)  # noqa: FBT003 # takes no keyword
        embedded.url()
    held = {Path(file.path).name for file in postmaster(embedded.folder).open_files()}
    assert held <= {"server.log", "alive"}


def test_processes_on_a_new_folder_share_one_server(folder):
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        urls = set(pool.map(url_in_another_process, [folder] * 3))
    assert len(urls) == 1
    assert ask(urls.pop(), "select count(*) from pg_database where datname = 'market'") == 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a running query"])
def test_a_killed_postmaster_is_replaced(embedded, busy):
    url = embedded.url()
    run(url, *KEEP, "checkpoint")
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        if busy:
            # a child that survives its parent until its query is done
            connection.pgconn.send_query(
                b"do $$ declare t timestamptz := clock_timestamp(); begin "
                b"while clock_timestamp() < t + interval '1 second' loop end loop; end $$"
            )
        kill_postmaster(embedded.folder)
        assert not embedded.running()
        url = embedded.url()
    assert ask(url, "select n from kept") == 7


def test_a_pid_file_of_another_program_is_ignored(embedded):
    embedded.url()
    killed = kill_postmaster(embedded.folder)
    pid_file = embedded.folder / "postgres/data/postmaster.pid"
    left = pid_file.read_text()
    with subprocess.Popen(["sleep", "600"]) as other:  # noqa: S607  # found on PATH, as by a user
        pid_file.write_text(left.replace(str(killed), str(other.pid), 1))
        assert not embedded.running()
        assert not embedded.stop()
        assert ask(embedded.url(), "select 1") == 1
        assert other.poll() is None
        other.kill()


def test_a_pid_file_of_another_server_is_ignored(own, pristine, folder):
    neighbour = EmbeddedPostgres(folder.parent / "neighbour", extra_configuration=FAST)
    shutil.copytree(pristine, neighbour.folder)
    neighbour_url = neighbour.url()
    (own.folder / "postgres/data/postmaster.pid").write_bytes(
        (neighbour.folder / "postgres/data/postmaster.pid").read_bytes()
    )
    assert not own.running()
    assert not own.stop()
    own_url = own.url()
    assert port_of(own_url) != port_of(neighbour_url)
    assert str(ask(own_url, "show data_directory")).startswith(str(own.folder))


@pytest.mark.parametrize("text", ["", "x\n", "1\n/elsewhere\n"], ids=["empty", "not a number", "truncated"])
def test_a_damaged_pid_file_is_replaced(embedded, text):
    embedded.url()
    kill_postmaster(embedded.folder)
    (embedded.folder / "postgres/data/postmaster.pid").write_text(text)
    assert ask(embedded.url(), "select 1") == 1


def test_a_server_started_manually_is_used(embedded):
    url = embedded.url()
    program = postmaster(embedded.folder).exe()
    embedded.stop()
    prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
    data = embedded.folder / "postgres/data"
    if prefix and subprocess.run([*prefix, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("root cannot start PostgreSQL by hand here")
    with (embedded.folder / "by hand").open("w") as log:
        by_hand = subprocess.Popen([*prefix, program, "-D", data], stdout=log, stderr=log, start_new_session=True)
    with by_hand:
        wait_for(embedded.running)
        assert embedded.url() == url
        assert postmaster(embedded.folder).pid == by_hand.pid
        assert embedded.stop()


def test_a_server_in_another_container_is_left_alone(embedded, monkeypatch):
    """Its processes are invisible, but its lock is not."""
    embedded.url()
    monkeypatch.setattr(server, "SETTLE_SECONDS", 0.1)
    pid_file = embedded.folder / "postgres/data/postmaster.pid"
    text = pid_file.read_text()
    with (
        changed(pid_file, "999999999" + text[text.index("\n") :]),
        pytest.raises(EmbeddedServerError, match="another container"),
    ):
        embedded.url()


def test_the_lock_decides_if_the_working_directory_is_hidden(embedded, monkeypatch):
    """As for root in a container without CAP_SYS_PTRACE."""
    url = embedded.url()

    def hidden(_: psutil.Process) -> str:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "cwd", hidden)
    assert embedded.running()
    assert embedded.url() == url
    assert embedded.stop()
    assert not processes.is_locked(embedded.folder / "postgres/alive")


def test_a_start_that_hangs_in_another_process(embedded, monkeypatch):
    embedded.stop()
    monkeypatch.setattr(server, "LOCK_SECONDS", 0.05)
    lock = embedded.folder / "postgres/lock"
    with FileLock(lock), pytest.raises(EmbeddedServerError, match=f"end the process that holds {lock}, then try again"):
        embedded.url()


# --- Files


def test_a_killed_initdb_does_not_block_the_next_start(folder):
    script = (
        "import sys; from pathlib import Path; from backfill_assets.adapters.embedded_postgres import *\n"
        "EmbeddedPostgres(Path(sys.argv[1])).url()"
    )
    home = folder / "postgres"
    with subprocess.Popen([sys.executable, "-c", script, folder]) as starter:
        wait_for(lambda: any(home.glob("unfinished-*/PG_VERSION")))
        children = psutil.Process(starter.pid).children(recursive=True)
        starter.kill()
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert not (home / "data").exists()

    server = EmbeddedPostgres(folder, extra_configuration=FAST)
    assert ask(server.url(), "select 1") == 1
    assert not list(home.glob("unfinished-*"))


def test_an_interrupted_start_is_completed_by_the_next(embedded):
    """The process was killed after the server started, before it created database and URL file."""
    url = embedded.url()
    run(url.replace("/market", "/postgres"), "drop database market with (force)")
    (embedded.folder / "postgres/url").unlink()
    assert embedded.url() == url
    assert (embedded.folder / "postgres/url").read_text() == url
    assert ask(url, "select 1") == 1


def test_a_stale_url_file_is_written_again(embedded):
    url = embedded.url()
    file = embedded.folder / "postgres/url"
    file.write_text("postgresql://postgres:x@127.0.0.1:1/market")
    assert embedded.url() == url
    assert file.read_text() == url


def test_a_folder_is_moved_while_stopped_or_running(own):
    url = EmbeddedPostgres(own.folder).url()  # with fsync, as users have it
    run(url, *KEEP)
    old = postmaster(own.folder)
    moved = EmbeddedPostgres(own.folder.rename(own.folder.parent / "moved once"))
    assert moved.running()
    assert moved.url() == url
    assert postmaster(moved.folder).pid != old.pid  # restarted: the old process could not write checkpoints
    run(url, "insert into kept values (8)", "checkpoint")
    assert moved.stop()
    again = EmbeddedPostgres(moved.folder.rename(moved.folder.parent / "moved twice"))
    assert ask(again.url(), "select sum(n) from kept") == 15


def test_a_copy_of_a_running_folder_is_a_separate_database(own):
    url = own.url()
    run(url, "checkpoint")
    copied = EmbeddedPostgres(own.folder.parent / "copy")
    shutil.copytree(own.folder, copied.folder)
    assert not copied.running()
    assert not copied.stop()
    assert own.running()
    assert port_of(copied.url()) != port_of(url)


def test_a_taken_port_is_left_to_its_owner(embedded):
    url = embedded.url()
    embedded.stop()
    with listener(port_of(url)):
        assert not embedded.running()
        other = embedded.url()
    assert port_of(other) != port_of(url)
    assert (embedded.folder / "postgres/url").read_text() == other
    assert ask(other, "select 1") == 1


def test_another_port_is_tried_if_one_is_taken_meanwhile(embedded, monkeypatch):
    embedded.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = embedded._ports
        monkeypatch.setattr(embedded, "_ports", lambda: iter([port, next(free())]))
        assert port_of(embedded.url()) != port


# --- Environment


def test_locale_time_zone_and_pg_variables_have_no_effect(folder, monkeypatch):
    surroundings = {"LC_ALL": "xx_YY.none", "LANG": "de_DE", "TZ": "Asia/Tokyo", "PGDATA": "/nowhere", "PGPORT": "1"}
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    url = EmbeddedPostgres(folder, extra_configuration=FAST).url()
    assert ask(url, "select to_char('2026-07-01 12:00Z'::timestamptz, 'HH24:MI TZ')") == "12:00 UTC"
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        ask(url, "select 1/0")


def test_pg_variables_that_break_the_drivers_are_reported(embedded, monkeypatch):
    embedded.url()
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(DatabaseUnavailable, match=r"does not support SSL.*unset PG… variables"):
        embedded.url()


def test_without_programs_the_message_says_what_to_install(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION_FOLDER", tmp_path)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'backfill-assets\[embedded\]', or set DATABASE_URL"):
        EmbeddedPostgres(folder, environ={"PATH": ""}).url()


def test_a_wrong_pg_bindir_is_reported(folder, tmp_path):
    with pytest.raises(EmbeddedServerError, match=f"PG_BINDIR is {tmp_path}, where initdb"):
        EmbeddedPostgres(folder, environ=os.environ | {"PG_BINDIR": str(tmp_path)}).url()


def test_a_cluster_of_another_version_needs_that_version(embedded):
    embedded.stop()
    with (
        changed(embedded.folder / "postgres/data/PG_VERSION", "9999\n"),
        pytest.raises(EmbeddedServerError, match="created by PostgreSQL 9999, which is not installed"),
    ):
        embedded.url()


def test_order_of_installations(tmp_path, monkeypatch):
    def installation(name: str, version: str) -> Path:
        programs = tmp_path / name
        programs.mkdir(parents=True)
        for program in ("initdb", "pg_ctl", "psql"):
            (programs / program).touch(mode=0o755)
        (programs / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (programs / "postgres").chmod(0o755)
        return programs

    chosen, on_path = installation("chosen", "17.1"), installation("path", "15.2 (Debian)")
    older, newer = installation("lib/9/bin", "9.6.1"), installation("lib/16/bin", "16beta1")
    broken = installation("lib/20/bin", "")
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION_FOLDER", tmp_path / "lib")

    everything = {"PG_BINDIR": str(chosen), "PATH": str(on_path)}
    assert binaries.find_binaries(everything).folder == chosen
    assert binaries.find_binaries(everything, major=15).folder == on_path
    assert binaries.find_binaries({"PATH": str(on_path)}).folder == on_path
    assert binaries.find_binaries({"PATH": ""}, major=9).folder == older
    with pytest.raises(EmbeddedServerError, match="created by PostgreSQL 16"):
        binaries.find_binaries({"PATH": ""}, major=16)  # the cluster of a release does not work with a beta
    (newer / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 16.0'\n")
    assert binaries.find_binaries({"PATH": ""}).folder == newer  # past the broken 20
    assert broken.is_dir()


@pytest.mark.parametrize("major", ["pginstall", "debian"])
def test_older_versions(folder, major):
    from_wheel = binaries.find_binaries(os.environ).folder.parents[1] / "pginstall/bin"
    debian = max(Path("/usr/lib/postgresql").glob("*/bin"), default=from_wheel / "none")
    programs = from_wheel if major == "pginstall" else debian
    if not (programs / "initdb").exists():
        pytest.skip(f"{programs} is not installed")
    old = EmbeddedPostgres(folder, environ=os.environ | {"PG_BINDIR": str(programs)}, extra_configuration=FAST)
    assert ask(old.url(), "show timezone") == "UTC"
    old.stop()
    # the next start selects the same version
    assert ask(EmbeddedPostgres(folder).url(), "select 1") == 1


def test_psql_is_found_on_the_path_or_beside_the_server(tmp_path, monkeypatch):
    programs = tmp_path / "with space"
    programs.mkdir()
    (programs / "psql").touch(mode=0o755)
    assert find_psql({"PATH": str(programs)}) == str(programs / "psql")
    assert find_psql({"PATH": "", "PG_BINDIR": str(programs)}) == str(programs / "psql")
    assert os.access(find_psql({"PATH": ""}), os.X_OK)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "DISTRIBUTION_FOLDER", tmp_path)
    with pytest.raises(EmbeddedServerError, match="psql is not installed"):
        find_psql({"PATH": ""})


# --- Errors


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"Not a directory.*choose a data folder that you can write to"):
        EmbeddedPostgres(tmp_path / "file" / ".backfill").url()


def test_a_lost_password(embedded):
    with (
        changed(embedded.folder / "postgres/password", None),
        pytest.raises(EmbeddedServerError, match="password is missing: restore it"),
    ):
        embedded.url()


def test_an_invalid_setting_refers_to_the_log(embedded):
    embedded.stop()
    with pytest.raises(EmbeddedServerError, match=r"did not start .*FATAL.*server.log"):
        EmbeddedPostgres(embedded.folder, extra_configuration={"max_connections": "lots"}).url()


def test_a_failed_initdb_refers_to_the_log(folder, tmp_path):
    programs = binaries.find_binaries(os.environ).folder
    for program in ("pg_ctl", "postgres"):
        (tmp_path / program).symlink_to(programs / program)
    (tmp_path / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no space left' >&2; exit 1\n")
    (tmp_path / "initdb").chmod(0o755)
    with pytest.raises(
        EmbeddedServerError, match=r"could not be created \(initdb: error: no space left\): see .*control.log"
    ):
        EmbeddedPostgres(folder, environ=os.environ | {"PG_BINDIR": str(tmp_path)}).url()


@AS_ROOT
def test_a_folder_of_another_user(folder):
    (folder / "postgres").mkdir(parents=True)
    os.chown(folder / "postgres", 12345, 12345)
    server = EmbeddedPostgres(folder)
    for method in (server.url, server.running, server.stop):
        with pytest.raises(EmbeddedServerError, match="belongs to the user 12345: run as that user"):
            method()


# --- Users

AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
import psycopg
from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres, binaries
binaries.find_binaries(os.environ)
try:
    psycopg.connect("postgresql://127.0.0.1:1/x")  # import everything while the files can be read
except psycopg.OperationalError:
    pass
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from backfill_assets.domain.errors import BackfillError
server = EmbeddedPostgres(Path(sys.argv[1]))
try:
    with psycopg.connect(server.url()) as connection:
        print(connection.execute("select current_user, 1 + 1").fetchone())
    print(server.url() == server.url(), server.running(), server.stop(), server.stop())
except BackfillError as error:
    print(type(error).__name__, error)
"""


def as_ordinary_user(folder: Path) -> str:
    """Run the script and return its output. It drops root's privileges after importing, since Python may be private."""
    # That user cannot write coverage data into the project's folder.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", AS_ORDINARY_USER, folder]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environ)
    assert result.stderr == ""
    return result.stdout


@AS_ROOT
def test_an_ordinary_user(folder):
    if not _nobody_can_reach_the_programs():
        pytest.skip("an ordinary user cannot read the virtual environment's PostgreSQL")
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    assert as_ordinary_user(folder) == "('postgres', 2)\nTrue True True False\n"
    assert (folder / "postgres").stat().st_uid == NOBODY


@AS_ROOT
def test_folder_errors_of_an_ordinary_user(folder):
    folder.mkdir(mode=0o755)
    assert "Cannot keep a database in" in as_ordinary_user(folder)
    assert "Permission denied" in as_ordinary_user(folder)
    (folder / "postgres").mkdir(mode=0o700)
    assert "belongs to the user root: run as that user" in as_ordinary_user(folder)


@pytest.fixture
def without_namespaces(tmp_path):
    """An environment in which `unshare` fails, as where the system forbids user namespaces."""
    forbidden = tmp_path / "bin" / "unshare"
    forbidden.parent.mkdir()
    forbidden.write_text("#!/bin/sh\nexit 1\n")
    forbidden.chmod(0o755)
    return {"PATH": str(forbidden.parent)}


@AS_ROOT
def test_without_namespaces_root_gives_a_new_cluster_and_nothing_else_to_nobody(folder, without_namespaces):
    if not _nobody_can_reach_the_programs():
        pytest.skip("the user nobody cannot read the virtual environment's PostgreSQL")
    (folder / "postgres").mkdir(parents=True)
    outside = folder.parent / "outside"
    outside.touch()
    (folder / "postgres/link").symlink_to(outside)
    no_unshare = EmbeddedPostgres(folder, extra_configuration=FAST, environ=without_namespaces)

    url = no_unshare.url()

    assert postmaster(folder).uids().real == (folder / "postgres").stat().st_uid != 0
    assert outside.stat().st_uid == folder.stat().st_uid == 0
    assert no_unshare.stop()
    # it still belongs to nobody when a namespace is available
    assert EmbeddedPostgres(folder, extra_configuration=FAST).url() == url


@AS_ROOT
def test_the_owner_of_an_existing_cluster_is_never_changed(folder, pristine, without_namespaces):
    shutil.copytree(pristine, folder)
    with pytest.raises(EmbeddedServerError, match="allows no user namespace"):
        EmbeddedPostgres(folder, environ=without_namespaces).url()
    assert {path.stat().st_uid for path in (folder / "postgres").rglob("*")} == {0}
    # `unshare` is also found in the system's own folders
    assert EmbeddedPostgres(folder, extra_configuration=FAST, environ={"PATH": ""}).url()


@AS_ROOT
def test_root_in_a_folder_that_nobody_cannot_enter(tmp_path, without_namespaces):
    """Without namespaces, and with a private folder of root."""
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match="does not run as root, and the user nobody may not use"):
        EmbeddedPostgres(tmp_path / "data", environ=without_namespaces).url()
    assert (tmp_path / "data/postgres").stat().st_uid == 0


def _nobody_can_reach_the_programs() -> bool:
    program = binaries.find_binaries(os.environ).program("postgres")
    try:
        return not subprocess.run(
            [program, "--version"], check=False, user=NOBODY, cwd="/", stdout=subprocess.DEVNULL
        ).returncode
    except PermissionError:
        return False
