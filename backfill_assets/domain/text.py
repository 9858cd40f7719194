"""Text from outside."""

from __future__ import annotations


def plain_text(text: str) -> str:
    """Return the printable characters in one line.

    Control characters, marks that reverse or hide text, and whitespace become single spaces: a terminal would obey the
    first, a reader be misled by the second.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
