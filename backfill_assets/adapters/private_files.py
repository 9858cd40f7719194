"""Folders and files that nobody but their owner reads or writes, whatever the caller's umask is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ROOT = 0
_FOLDER, _FILE, _PASSABLE = 0o700, 0o600, 0o711


def make_private_folder(folder: Path) -> Path:
    """The folder, for its owner only; one that is there and ours is closed to others. Parents as in `make_data_folder`.

    What programs of others make in it is out of reach with it. Raises OSError.
    """
    make_data_folder(folder.parent)
    folder.mkdir(mode=_FOLDER, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _FOLDER:
        folder.chmod(_FOLDER)
    return folder


def make_data_folder(folder: Path) -> Path:
    """The folder and its parents, where they are missing for their owner only; those that are there stay as they are.

    Root's let others pass, and neither list nor write: the embedded server may run as `nobody` somewhere below.
    Raises OSError.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_data_folder(folder.parent)
        folder.mkdir(mode=_FOLDER, exist_ok=True)
        folder.chmod(_PASSABLE if os.geteuid() == _ROOT else _FOLDER)  # a umask can take bits away from `mkdir`
    return folder


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file, for its owner only, also where it was there before; never through a link. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, _FILE)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _FILE:
        os.fchmod(descriptor, _FILE)
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """The file with this content and no other, for its owner only. Raises OSError."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(content)
