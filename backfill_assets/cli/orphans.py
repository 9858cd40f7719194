"""Services that a killed `backfill up` left behind: noted while it runs, ended by the next one.

What lives here: the notes, and telling such a service from any other process. What does not: starting and stopping the
services of a living one (`services`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from backfill_assets.adapters.private_files import private_folder, write_private
from backfill_assets.adapters.processes import find, identity

_STOP_SECONDS = 20


class _Note(msgspec.Struct, frozen=True):
    """A service and the process that started it, each by its `identity`."""

    service: str
    starter: str


def note(folder: Path, pid: int) -> Path:
    """Note a service that this process has started; the file to remove once it has ended."""
    file = private_folder(folder) / f"{pid}.json"
    try:
        write_private(file, msgspec.json.encode(_Note(identity(pid), identity(os.getpid()))))
    except psutil.Error:  # it has ended already, which whoever watches it will say
        file.unlink(missing_ok=True)
    return file


def end_orphans(folder: Path) -> int:
    """End the noted services whose starter is gone, in order first, then by force; how many there were."""
    orphans = []
    for file in sorted(folder.glob("*.json")):
        try:
            noted = msgspec.json.decode(file.read_bytes(), type=_Note)
        except (OSError, msgspec.MsgspecError):  # cut off with the process that was writing it
            file.unlink(missing_ok=True)
            continue
        if find(noted.starter) is not None:
            continue
        if (service := find(noted.service)) is not None:
            orphans.append(service)
        file.unlink(missing_ok=True)
    for service in orphans:
        _quietly(service.terminate)
    _, stubborn = psutil.wait_procs(orphans, timeout=_STOP_SECONDS)
    for service in stubborn:
        _quietly(service.kill)
    psutil.wait_procs(stubborn, timeout=_STOP_SECONDS)
    return len(orphans)


def _quietly(signal: Callable[[], None]) -> None:
    with suppress(psutil.Error):  # gone meanwhile
        signal()
