"""Which process is meant, told so that no later one with the same number is taken for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_PROC = Path("/proc")
# proc_pid_stat(5): the time a process started is the 22nd field, the 20th after the command's closing bracket.
_START_AFTER_COMMAND = 19


def identity(pid: int) -> str:
    """`number@start` of a running process. Raises psutil.Error where there is none.

    The start is the kernel's own count since boot where it tells one, with the boot's id: seconds since 1970 are worked out
    from the machine's clock, which steps when a paused machine goes on, and then no process would be found again.
    """
    process = psutil.Process(pid)
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return f"{pid}@{process.create_time():.2f}"
    return f"{pid}@{boot}+{fields[_START_AFTER_COMMAND]}"


def of_session(leader: int) -> Iterator[psutil.Process]:
    """The processes of the session that a process leads or led, by its number."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or another user's
            if os.getsid(process.pid) == leader:
                yield process


def number(known: str) -> int:
    """The number of an identity. Raises ValueError where it is none."""
    return int(known.partition("@")[0])


def find(known: str) -> psutil.Process | None:
    """The process of an identity, where it still runs."""
    with suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(number(known))
        if identity(process.pid) == known and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
