"""Celery workers and their Redis for a test, each a process group of its own with a home of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backfill_assets_tests.system.platform import PROJECT, wait_until

CELERY = PROJECT / "deploy" / "celery"


@dataclass(frozen=True)
class Worker:
    """A worker with all its children; `name` as Celery knows it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As a machine dies: the worker, its children and the command that started them, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of the test's own on a free port, without a file; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(20)


def home(folder: Path, *, poll_seconds: int) -> Path:
    """A DAGSTER_HOME with the files of deploy/celery, in which lost workers are looked for every `poll_seconds`."""
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "workspace.yaml", folder)
    shipped = (CELERY / "dagster.yaml").read_text(encoding="utf-8")
    changed = shipped.replace("poll_interval_seconds: 15", f"poll_interval_seconds: {poll_seconds}")
    assert changed != shipped
    (folder / "dagster.yaml").write_text(changed, encoding="utf-8")
    return folder


@contextmanager
def worker(name: str, environment: Mapping[str, str], folder: Path) -> Iterator[Worker]:
    """A worker that executes two runs at a time, started as docs/howto/several-machines.md says; killed at the end."""
    programs = Path(sys.executable).parent
    log = folder / "worker.log"
    command = [programs / "dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-q", "dagster", "-n", name]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "-y", CELERY / "celery.yaml", "--", "--concurrency", "2"],
            cwd=PROJECT,
            env={**environment, "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        started = Worker(f"{name}@{socket.gethostname()}", process, log)
        try:
            wait_until(lambda: True if b" ready." in log.read_bytes() else None)
            yield started
        finally:
            if process.poll() is None:
                started.kill()


def _listens(port: int) -> bool | None:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return None
    return True
