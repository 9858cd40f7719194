"""Which process serves a folder, and whether one still does.

Two witnesses. `postmaster.pid`, PostgreSQL's own, names process and port, but outlives a killed server, and its number may be
another program's by then. The lock file `alive` is ours: the server and each of its children hold it through an inherited
descriptor, so it is free exactly when the last of them is gone, in whatever container they run.
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

    `ready`: it says that it accepts connections. `moved`: its folder was moved under it. PostgreSQL writes most files by
    where it stands, but the checkpoint's by their old path, so a moved server fails within minutes, and must be restarted.
    """

    process: psutil.Process
    port: int
    ready: bool
    moved: bool


def find_postmaster(data: Path, alive: Path) -> Postmaster | None:
    """The process that serves the cluster `data`, or None. A moved folder is still found, a copied one is not.

    Where the system hides the process's working folder (root in a container, the server as `nobody`), the lock decides.
    """
    lines = _pid_file(data)  # 1 pid, 2 folder, 4 port, 8 state: postgresql.org's src/include/utils/pidfile.h
    try:
        process, port = psutil.Process(int(lines[0])), int(lines[3])
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith(("postgres", "postmaster")):
            return None
        try:
            here = Path(process.cwd()).samefile(data)
        except psutil.AccessDenied:
            here = is_held(alive)
    except (IndexError, ValueError, OSError, psutil.Error):
        return None
    if not here:
        return None
    return Postmaster(process, port, ready=lines[7:] == ["ready"], moved=not _same(Path(lines[1]), data))


def clear_reused_pid(data: Path) -> None:
    """Drop a pid file whose number is another program's now, as PostgreSQL would take that program for its server.

    To be called only when neither witness sees a server. Where no such process exists the file stays: PostgreSQL clears it,
    after a check of its own for children left behind.
    """
    lines = _pid_file(data)
    if not lines or not lines[0].isdecimal() or psutil.pid_exists(int(lines[0])):
        (data / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def held(alive: Path, seconds: float) -> Iterator[int]:
    """The lock's descriptor while the block runs, for a server to inherit. Raises TimeoutError where it stays taken."""
    descriptor = os.open(alive, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not wait_until(lambda: _lock(descriptor, fcntl.LOCK_EX), seconds):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(alive))
        yield descriptor
    finally:
        os.close(descriptor)  # an heir's copy keeps the lock


def is_held(alive: Path) -> bool:
    """Whether a process of a server still holds the lock."""
    try:
        descriptor = os.open(alive, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)  # shared: those who ask do not deceive each other
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until `condition` holds; False after `seconds`."""
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
