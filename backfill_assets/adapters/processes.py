"""Identify processes so that a later process with the same number is not mistaken for an earlier one."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

_PROC = Path("/proc")
# proc_pid_stat(5): the start time is field 22, which is the 20th after the closing bracket of the command.
_START_AFTER_COMMAND = 19


@cache
def machine() -> str:
    """Return where process ids mean the same as here: the host's name, boot and namespace of process ids.

    Two containers may share a host's name, and always share its boot.
    """
    with suppress(OSError):
        return f"{socket.gethostname()} {_boot()} {Path(_PROC, 'self/ns/pid').readlink()}"
    return socket.gethostname()


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identity(pid: int) -> str:
    """Return `number@start` of a running process. Raises psutil.Error if there is none.

    On Linux the start is the kernel's count since boot, with the boot's id. A start in seconds since 1970 would change when
    the machine's clock steps, as it does after a suspend.
    """
    process = psutil.Process(pid)
    try:
        boot = _boot()
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return f"{pid}@{process.create_time():.2f}"
    return f"{pid}@{boot}+{fields[_START_AFTER_COMMAND]}"


def find(known: str) -> psutil.Process | None:
    """Return the process with this identity if it is still running."""
    with suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(int(known.partition("@")[0]))
        if identity(process.pid) == known and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
