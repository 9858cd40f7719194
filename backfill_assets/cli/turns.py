"""How often Python's threads take turns while a command loads Dagster and asks for first answers beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SHORT = 0.0005
"""Seconds, a tenth of Python's usual: sending a request takes some ten turns, and should come right after its permit."""


@contextmanager
def short_turns() -> Iterator[None]:
    """Within it a thread that waits for its turn gets it ten times as soon."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SHORT)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
