"""Files that a command writes where the user says."""

from __future__ import annotations

import stat
from pathlib import Path

from backfill_assets.adapters.private_files import write_private
from backfill_assets.domain.errors import UsageMistake


def write_whole(path: Path, text: str, option: str) -> None:
    """The file whole, or not at all; for its owner only, unless it was there and others could read it.

    Raises UsageMistake, which names the option that asked for it.
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
