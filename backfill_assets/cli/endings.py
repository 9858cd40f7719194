"""Ending processes that this one did not start itself, or no longer waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

_SECONDS = 20


def end(processes: Sequence[psutil.Process]) -> None:
    """Ask all of them to end, and kill those that have not after 20 seconds. One that is gone already is no error."""
    for process in processes:
        _quietly(process.terminate)
    _, stubborn = psutil.wait_procs(processes, timeout=_SECONDS)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=_SECONDS)


def _quietly(signal: Callable[[], None]) -> None:
    with suppress(psutil.Error):  # gone meanwhile
        signal()
