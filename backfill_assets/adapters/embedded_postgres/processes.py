"""Find the process that serves a folder.

PostgreSQL's `postmaster.pid` has process and port, but survives a killed server, and its pid may have been reused. The lock
file `alive` is inherited by the server and its children, so it is free exactly when the last of them has ended, in any
container.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The process that serves a folder, and its port on 127.0.0.1.

    `ready`: it accepts connections. `moved`: its folder was moved while it runs. PostgreSQL writes most files relative to its
    working directory but checkpoints to the old path, so it fails within minutes and must be restarted.
    """

    process: psutil.Process
    port: int
    ready: bool
    moved: bool


def find_postmaster(data: Path, alive: Path) -> Postmaster | None:
    """Return the process that serves the cluster `data`, or None. It is found if the folder was moved, but not in a copy.

    If the working directory of the process is hidden (root in a container, the server as `nobody`), the lock decides.
    """
    lines = _pid_file(data)  # 1 pid, 2 folder, 4 port, 8 state: postgresql.org's src/include/utils/pidfile.h
    try:
        process, port = psutil.Process(int(lines[0])), int(lines[3])
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith(("postgres", "postmaster")):
            return None
        try:
            here = Path(process.cwd()).samefile(data)
        except psutil.AccessDenied:
            here = is_locked(alive)
    except (IndexError, ValueError, OSError, psutil.Error):
        return None
    if not here:
        return None
    return Postmaster(process, port, ready=lines[7:] == ["ready"], moved=not _same(Path(lines[1]), data))


def clear_reused_pid(data: Path) -> None:
    """Remove a pid file whose pid was reused, as PostgreSQL would mistake that process for its server.

    Call it only if there is no server. If no process has the pid, the file stays: PostgreSQL removes it after checking for
    orphaned children.
    """
    lines = _pid_file(data)
    if not lines or not lines[0].isdecimal() or psutil.pid_exists(int(lines[0])):
        (data / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def lock_held(alive: Path, seconds: float) -> Iterator[int]:
    """Hold the lock and yield its descriptor for a server to inherit. Raises TimeoutError if it stays locked."""
    descriptor = os.open(alive, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not wait_until(lambda: _lock(descriptor, fcntl.LOCK_EX), seconds):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(alive))
        yield descriptor
    finally:
        os.close(descriptor)  # an inherited copy keeps the lock


def is_locked(alive: Path) -> bool:
    """Return whether a server or one of its children holds the lock."""
    try:
        descriptor = os.open(alive, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)  # shared, so that concurrent checks do not block each other
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until `condition` is true; return False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _pid_file(data: Path) -> list[str]:
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text(errors="replace").splitlines()]
    except OSError:
        return []


def _same(path: Path, data: Path) -> bool:
    try:
        return path.samefile(data)
    except OSError:
        return False


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
