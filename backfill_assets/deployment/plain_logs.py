"""`python -m backfill_assets.deployment.plain_logs MODULE …`: a Dagster program that logs to a file.

Its text has no colour codes, and no line that lists every partition: a daemon wrote 7 MB in ten minutes, for 100 symbols.
"""

from __future__ import annotations

import logging
import re
import runpy
import sys
from contextlib import suppress
from typing import Any

import coloredlogs  # type: ignore[import-untyped]  # Dagster's

_LONGEST, _KEPT = 500, 300
_LISTED = re.compile(r"\{[^{}]{300,}\}")
"""A set of partition keys within a message of several lines."""


class _PlainFormatter(logging.Formatter):
    """Takes the arguments of the formatter with colours, and does without them."""

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, **_styles: object) -> None:
        super().__init__(fmt, datefmt)


def shortened(message: str) -> str:
    """Shorten long sets and lines of a message."""
    message = _LISTED.sub(lambda found: f"{found[0][:100]} … ({found[0].count(',') + 1:,} in all)}}", message)
    return "\n".join(
        line if len(line) <= _LONGEST else f"{line[:_KEPT]} … ({len(line):,} characters)"
        for line in message.split("\n")
    )


def main() -> None:
    """Run the module that the first argument names, with the others as its arguments."""
    make = logging.getLogRecordFactory()

    def make_short(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if isinstance(record.msg, str):
            with suppress(TypeError, ValueError):  # wrong arguments are reported by the handler
                record.msg, record.args = shortened(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(make_short)
    coloredlogs.ColoredFormatter = _PlainFormatter  # no option of Dagster's programs is plain text
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
