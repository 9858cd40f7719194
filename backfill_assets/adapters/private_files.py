"""Folders and files that only their owner can read or write, regardless of the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ROOT = 0
_FOLDER, _FILE, _PASSABLE = 0o700, 0o600, 0o711


def make_private_folder(folder: Path) -> Path:
    """Create a folder for its owner only, or make an existing one private. Parents as in `make_data_folder`. Raises
    OSError.
    """
    make_data_folder(folder.parent)
    folder.mkdir(mode=_FOLDER, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _FOLDER:
        folder.chmod(_FOLDER)
    return folder


def make_data_folder(folder: Path) -> Path:
    """Create a folder and its missing parents for their owner only. Existing folders are unchanged. Raises OSError.

    Others can traverse root's folders, but not list or write them: the embedded server may run as `nobody` below.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_data_folder(folder.parent)
        folder.mkdir(mode=_FOLDER, exist_ok=True)
        folder.chmod(_PASSABLE if os.geteuid() == _ROOT else _FOLDER)  # a umask may remove bits in `mkdir`
    return folder


def open_private(path: Path, flags: int) -> int:
    """Open a file for its owner only, and make an existing one private; links are not followed. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, _FILE)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _FILE:
        os.fchmod(descriptor, _FILE)
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner only, replacing its content. Raises OSError."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(content)
