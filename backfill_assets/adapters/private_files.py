"""Folders and files that only their owner can read or write, regardless of the umask and of what other users planted."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from backfill_assets.domain.errors import SettingMistake

_ROOT = 0
_FOLDER, _FILE, _PASSABLE = 0o700, 0o600, 0o711


def make_private_folder(folder: Path) -> Path:
    """Create a folder for its owner only, or make an existing one private. Parents as in `make_data_folder`.

    Raises OSError, and SettingMistake if another user owns it or made a link in its place.
    """
    make_data_folder(folder.parent)
    folder.mkdir(mode=_FOLDER, exist_ok=True)
    if owner := other_owner(folder):
        raise SettingMistake(
            f"The folder {folder} belongs to the user {owner}: run as that user, or choose another data folder "
            "(BACKFILL_DATA_DIR)."
        )
    if stat.S_IMODE(folder.stat().st_mode) != _FOLDER:
        folder.chmod(_FOLDER)
    return folder


def other_owner(folder: Path, accepted: str | None = None) -> str | None:
    """Return the user who owns a folder, or made a link in its place, unless it is this or the accepted one.

    That user could read, or replace, what is kept there. Root's links are followed, as by the kernel. Raises OSError.
    """
    user = os.geteuid()
    if folder.is_symlink() and (maker := folder.lstat().st_uid) not in {user, _ROOT}:
        return _name(maker)
    owner = folder.stat().st_uid
    return None if owner == user or _name(owner) == accepted else _name(owner)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
    """Open a file for its owner only, and make an existing one private. Raises OSError.

    Links are not followed, and a file of another user is refused unless the folder is theirs too.
    """
    descriptor = os.open(path, (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK, _FILE)  # a pipe must not block
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner only, replacing its content. Raises OSError."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(content)
