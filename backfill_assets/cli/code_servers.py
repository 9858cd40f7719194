"""Dagster's code servers, which webserver and daemon start, and which can outlive them with 200 MB each.

One ends by itself once nobody asks it any more and its runs have ended. But the thread that looks after its runs ends with
its first error (`_cleanup_thread` of dagster/_grpc/server.py in 1.13): where the database was away just when a run had ended,
the server stays for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psutil

from backfill_assets.adapters.processes import of_session
from backfill_assets.cli.endings import end

_SECONDS = 5
"""So long those that end by themselves are waited for."""


def code_servers(service: int) -> list[psutil.Process]:
    """Those of a service, by its number: it leads a session of its own, which they stay in when it has ended."""
    found = []
    for process in of_session(service):
        with suppress(psutil.Error):  # ended meanwhile
            if {"api", "grpc"} <= set(process.cmdline()):
                found.append(process)
    return found


def end_idle(servers: Sequence[psutil.Process]) -> bool:
    """End those that carry no run out and do not end by themselves; whether all have ended. A run goes on, its server too."""
    _, left = psutil.wait_procs(servers, timeout=_SECONDS)
    busy = [server for server in left if _carries_runs(server)]
    end([server for server in left if server not in busy])
    return not busy


def _carries_runs(server: psutil.Process) -> bool:
    try:
        return any("multiprocessing.spawn" in " ".join(child.cmdline()) for child in server.children())
    except psutil.Error:  # ended meanwhile
        return False
