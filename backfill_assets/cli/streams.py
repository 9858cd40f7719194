"""Standard streams that may be closed, full, or unable to encode a character: the work of a command goes on."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Buffer

_ERRORS = "backfill.readable"
_READABLE = {"✓": "+", "✗": "x", "…": "...", "·": ".", "\N{NO-BREAK SPACE}": " "}


_COMMAND = re.compile(r"""((?<=[`"])|(?<=^  )|(?<=Repair: ))backfill (?!.*--(?:demo|help))[^`"\n]+""", re.MULTILINE)
"""A command that is printed as advice: in backticks or quotes, or on a line of its own."""


class _DemoText(io.TextIOWrapper):
    """Text in which every command has the option --demo."""

    def write(self, text: str, /) -> int:
        """Write text with the option added."""
        return super().write(_COMMAND.sub(r"\g<0> --demo", text))


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


def open_standard_streams(*, demo: bool) -> LossyFile:
    """Replace the standard streams of this process by lossy ones, and return the file of standard output.

    With `demo`, the commands that are printed as advice get the option --demo.
    A closed one is opened on the null device: otherwise the next file or connection would get its descriptor.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # gets the lowest free descriptor
    output = LossyFile(1, "w", closefd=False)
    sys.stdout = lossy_text(output, sys.stdout, demo=demo)
    sys.stderr = lossy_text(LossyFile(2, "w", closefd=False), sys.stderr, demo=demo)
    return output


def lossy_text(file: LossyFile, like: TextIO | None, *, demo: bool = False) -> TextIO:
    """Open a file for text in the encoding of another stream; characters that it does not have are replaced."""
    encoding, on_terminal = getattr(like, "encoding", None) or "utf-8", file.isatty()
    kind = _DemoText if demo or isinstance(like, _DemoText) else io.TextIOWrapper
    return kind(io.BufferedWriter(file), encoding, _ERRORS, line_buffering=on_terminal or file.fileno() == 2)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_READABLE.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replaced)
