"""Ctrl-C and its like while a command works, raised where nothing is left behind.

Python raises KeyboardInterrupt between any two steps of the main thread. Where that is within the machinery of `import`, a
lock stays taken for good (`_get_module_lock` of importlib/_bootstrap.py: between the lock and the `try` that gives it back),
and every other thread that imports something waits for ever: the one that asks the vendor while Dagster is loaded did, and
the command with it. Between the steps of a module that is being imported it is harmless.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from types import FrameType

_IMPORT = "<frozen importlib."
_SOON = 0.002
"""Seconds until it is tried again: the machinery runs a few microseconds at a time."""


def take(signals: Iterable[signal.Signals]) -> None:
    """From now on these raise KeyboardInterrupt, also where a shell had them ignored. SIGALRM is used up by it."""
    for name in (*signals, signal.SIGALRM):
        signal.signal(name, _raise)


def _raise(_name: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_filename.startswith(_IMPORT):
        signal.setitimer(signal.ITIMER_REAL, _SOON)
        return
    raise KeyboardInterrupt
