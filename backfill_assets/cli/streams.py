"""Standard streams that may be closed, full, or unable to encode a character: the work of a command goes on."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Buffer

_ERRORS = "backfill.readable"
_READABLE = {"✓": "+", "✗": "x", "…": "...", "·": ".", "\N{NO-BREAK SPACE}": " "}


class LossyFile(io.FileIO):
    """A file that drops what cannot be written, and keeps the last error."""

    error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write what can be written; report everything as written."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            return memoryview(data).nbytes


def open_standard_streams() -> LossyFile:
    """Replace the standard streams of this process by lossy ones, and return the file of standard output.

    A closed one is opened on the null device: otherwise the next file or connection would get its descriptor.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # gets the lowest free descriptor
    output = LossyFile(1, "w", closefd=False)
    sys.stdout, sys.stderr = lossy_text(output, sys.stdout), lossy_text(LossyFile(2, "w", closefd=False), sys.stderr)
    return output


def lossy_text(file: LossyFile, like: TextIO | None) -> TextIO:
    """Open a file for text in the encoding of another stream; characters that it does not have are replaced."""
    encoding, on_terminal = getattr(like, "encoding", None) or "utf-8", file.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding, _ERRORS, line_buffering=on_terminal or file.fileno() == 2
    )


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_READABLE.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replaced)
