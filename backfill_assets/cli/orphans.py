"""Services that a killed `backfill up` left behind: noted while it runs, ended by the next one."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil

from backfill_assets.adapters.private_files import make_private_folder, write_private
from backfill_assets.adapters.processes import find, identity, number
from backfill_assets.cli.code_servers import code_servers, end_idle
from backfill_assets.cli.endings import end


class _Note(msgspec.Struct, frozen=True):
    """A service and the process that started it, each by its `identity`."""

    service: str
    starter: str


def note(folder: Path, pid: int) -> Path:
    """Note a service that this process has started; the file to remove once it has ended."""
    file = make_private_folder(folder) / f"{pid}.json"
    try:
        write_private(file, msgspec.json.encode(_Note(identity(pid), identity(os.getpid()))))
    except psutil.Error:  # it has ended already, which whoever watches it will say
        file.unlink(missing_ok=True)
    return file


def end_orphans(folder: Path) -> int:
    """End the noted services whose starter is gone, with their code servers; how many services there were.

    A code server that still carries a run out stays, and stays noted.
    """
    left: dict[Path, int] = {}
    orphans: list[psutil.Process] = []
    for file in sorted(folder.glob("*.json")):
        try:
            noted = msgspec.json.decode(file.read_bytes(), type=_Note)
            service = number(noted.service)
        except (OSError, ValueError, msgspec.MsgspecError):  # cut off with the process that was writing it
            file.unlink(missing_ok=True)
            continue
        if find(noted.starter) is not None:
            continue
        if (orphan := find(noted.service)) is not None:
            orphans.append(orphan)
        elif psutil.pid_exists(service):
            # another program by now, as after a restart of the machine, whose code servers are its own
            file.unlink()
            continue
        left[file] = service
    end(orphans)
    for file, service in left.items():
        if end_idle(code_servers(service)):
            file.unlink(missing_ok=True)
    return len(orphans)
