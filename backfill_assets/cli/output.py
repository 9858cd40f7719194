"""Consoles and files that commands write to."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

from backfill_assets.adapters.private_files import write_private
from backfill_assets.domain.errors import UsageMistake

PIPED_WIDTH = 160


def output_console() -> Console:
    """Return a console on standard output, for results."""
    return _console(sys.stdout)


@contextmanager
def progress_console() -> Iterator[Console]:
    """Open a console on standard error, for progress.

    It writes to a copy of the file descriptor: while a step runs, Dagster replaces the original by a pipe.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # no file descriptor, as in a test that captures output
        yield _console(sys.stderr)
        return
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as copy:
        yield _console(copy)


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else PIPED_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def write_file(path: Path, text: str, option: str) -> None:
    """Write the file atomically, readable by its owner only unless it exists with other permissions.

    Raises UsageMistake that names the `option` of the path.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write_private(part, text.encode())
        if path.is_file():
            part.chmod(stat.S_IMODE(path.stat().st_mode))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageMistake(f"{option} {str(path)!r} cannot be written ({error.strerror}).") from None
