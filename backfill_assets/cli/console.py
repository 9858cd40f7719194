"""Where a person reads: consoles that neither Dagster's log capture nor a pipe disturbs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

PIPED_WIDTH = 160


def output_console() -> Console:
    """Standard output, for results."""
    return _console(sys.stdout)


@contextmanager
def progress_console() -> Iterator[Console]:
    """Standard error, for what is only worth seeing while it happens.

    On a copy of its file descriptor, closed afterwards: while a step runs, Dagster puts a pipe in the place of the original.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # no real file behind it, as under a test's capture
        yield _console(sys.stderr)
        return
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as copy:
        yield _console(copy)


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else PIPED_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=False)
