"""Celery workers, each with a process group and a DAGSTER_HOME of its own, and their Redis server."""

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

from backfill_assets_tests.support import PROJECT, unused_port
from backfill_assets_tests.system.platform import wait_until

CELERY = PROJECT / "deploy" / "celery"


@dataclass(frozen=True)
class Worker:
    """A worker; `name` is Celery's."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Kill the worker with all its children, as if its machine died."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis server without persistence; yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = unused_port()
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(20)


def home(folder: Path, *, poll_seconds: int) -> Path:
    """Make a DAGSTER_HOME from the files of deploy/celery, whose daemon looks for lost workers every `poll_seconds`."""
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "workspace.yaml", folder)
    shipped = (CELERY / "dagster.yaml").read_text(encoding="utf-8")
    changed = shipped.replace("poll_interval_seconds: 15", f"poll_interval_seconds: {poll_seconds}")
    assert changed != shipped
    (folder / "dagster.yaml").write_text(changed, encoding="utf-8")
    return folder


@contextmanager
def worker(name: str, environment: Mapping[str, str], folder: Path) -> Iterator[Worker]:
    """Start a worker for two runs at a time, as docs/howto/several-machines.md describes; kill it at the end."""
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
