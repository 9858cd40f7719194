"""Code servers that outlive their service: which are ended, and which carry a run out. Ordinary processes play them."""

import os
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from backfill_assets.adapters.processes import identity
from backfill_assets.cli import code_servers as module
from backfill_assets.cli.code_servers import code_servers, end_idle
from backfill_assets.cli.orphans import end_orphans, note
from backfill_assets.cli.service import Service

WAITS = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"
WITH_A_RUN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}, 'multiprocessing.spawn'])"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0)


@contextmanager
def service(code, *arguments):
    """A process that leads a session of its own, once it waits."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            for each in psutil.Process(process.pid).children() if process.poll() is None else []:
                each.kill()
            process.kill()


def test_what_is_no_code_server_is_none_of_its_business():
    with service(WAITS, "api") as other:
        assert code_servers(other.pid) == []
        assert end_idle([])
        assert other.poll() is None


def test_one_of_another_service_is_left_alone():
    with service(WAITS, "api", "grpc") as server, service(WAITS) as other:
        assert [found.pid for found in code_servers(server.pid)] == [server.pid]
        assert code_servers(other.pid) == []


def test_an_idle_one_is_ended():
    with service(WAITS, "api", "grpc") as server:
        assert end_idle(code_servers(server.pid))
        assert code_servers(server.pid) == []


def test_one_of_a_program_that_has_a_noted_number_by_chance_is_left_alone(tmp_path):
    with service(WAITS) as other, service(WAITS, "api", "grpc") as process:
        file = note(tmp_path, process.pid)
        noted = file.read_text().replace(f"{identity(os.getpid())}", f"{identity(other.pid)}")
        other.kill()
        other.wait()
        file.write_text(noted.replace(identity(process.pid), identity(process.pid) + "0"))
        assert end_orphans(tmp_path) == 0
        assert process.poll() is None
        assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_stopped_is_noted_no_longer(tmp_path):
    with service(WAITS, "api", "grpc") as process:
        Service("daemon", process, tmp_path / "log", note(tmp_path, process.pid)).stop()
        assert list(tmp_path.iterdir()) == []


def test_one_with_a_run_goes_on_until_the_run_has_ended():
    with service(WITH_A_RUN, "api", "grpc") as server:
        (found,) = code_servers(server.pid)
        (run,) = found.children()
        assert not end_idle([found])
        assert server.poll() is None
        run.kill()
        assert server.wait(20) == 0
        assert end_idle([found])
