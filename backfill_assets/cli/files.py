"""Files that a command writes where the user says.

What lives here: writing one whole. What does not: what stands in it.
"""

from __future__ import annotations

from pathlib import Path

from backfill_assets.domain.errors import UsageMistake


def write_whole(path: Path, text: str, option: str) -> None:
    """The file whole, or not at all. Raises UsageMistake, which names the option that asked for it."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageMistake(f"{option} {str(path)!r} cannot be written ({error.strerror}).") from None
