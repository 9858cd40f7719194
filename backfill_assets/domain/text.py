"""Text from outside."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def plain_text(text: str) -> str:
    """Return the printable characters in one line.

    Control characters, marks that reverse or hide text, and whitespace become single spaces: a terminal would obey the
    first, a reader be misled by the second.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence on an unknown name: the known one that is probably meant, or some of them."""
    alike = {**{k.casefold(): k for k in known}, **{k: k for k in known}}
    if close := get_close_matches(name, alike, n=1) or get_close_matches(name.casefold(), alike, n=1):
        return f"did you mean {alike[close[0]]}?"
    if not known:
        return "there are none."
    some = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    return f"there are {some}."
