"""Running PostgreSQL's programs as a user that PostgreSQL accepts.

PostgreSQL refuses uid 0. For root, the programs run in a user namespace where root's own files are seen as an ordinary
user's; where the system forbids that (Docker's default profile, macOS), they run as `nobody`, who is given the
server's folder and nothing else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from backfill_assets.domain.errors import EmbeddedServerError

NOBODY = "nobody"
ROOT = 0


@dataclass(frozen=True, slots=True)
class Runner:
    """Starts programs as one user, in an environment without the caller's PostgreSQL and language settings."""

    environment: Mapping[str, str]
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, command: Sequence[str | Path], *, folder: Path, log: IO[bytes], inherited: Sequence[int] = ()) -> int:
        """Run to the end in `folder`, output into `log`; returns the exit status.

        A file, not a pipe: a server started here keeps its output open, and a pipe's reader would wait for it.
        A session of its own: the terminal's Ctrl-C is not for a server that other processes use.
        Of the caller's open files, only `inherited` reach it. Raises OSError where it cannot start at all.
        """
        return subprocess.run(  # noqa: S603 # the package's own commands, no shell
            [*self.prefix, *map(str, command)],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        ).returncode

    def can_use(self, folder: Path, program: Path) -> bool:
        """Whether the user can write in `folder` and run `program`."""
        probe: list[str | Path] = ["test", "-w", folder, "-a", "-x", program]
        try:
            with Path(os.devnull).open("wb") as nowhere:
                return self.run(probe, folder=Path("/"), log=nowhere) == 0
        except OSError:
            return False

    def own(self, folder: Path) -> None:
        """Give everything in `folder` to the user. Links are changed themselves, never what they point to."""
        if self.uid is None or self.gid is None:
            return
        for parent, folders, files in os.walk(folder):
            for name in (".", *folders, *files):
                os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)


def runner_for(folder: Path, program: Path, environ: Mapping[str, str]) -> Runner:
    """Who runs the programs that serve `folder`; `program` is one of them.

    For root, who owns the folder decides where it exists already: files of `nobody` stay out of reach in a namespace.
    Raises EmbeddedServerError where nobody can be found who may do it.
    """
    environment = _environment(environ)
    if os.geteuid() != ROOT:
        return Runner(environment)
    unshare = shutil.which("unshare", path=environ.get("PATH", ""))
    if unshare is not None and folder.stat().st_uid == ROOT:
        namespace = Runner(environment, (unshare, "--user", "--map-user=65534", "--map-group=65534"))
        if namespace.can_use(folder, program):
            return namespace
    try:
        nobody = pwd.getpwnam(NOBODY)
        runner = Runner(environment, (), nobody.pw_uid, nobody.pw_gid)
        runner.own(folder)
    except (KeyError, OSError):
        runner = None
    if runner is None or not runner.can_use(folder, program):
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and the user {NOBODY} may not use {folder} or run {program}: "
            "run as an ordinary user, choose a data folder (BACKFILL_DATA_DIR) that all can enter, or set DATABASE_URL."
        )
    return runner


def refuse_foreign(folder: Path) -> None:
    """Raise EmbeddedServerError where `folder` exists and is another user's: its files could not be read or kept private."""
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise EmbeddedServerError(unusable(folder, error)) from error
    if owner != os.geteuid() and not (os.geteuid() == ROOT and _name(owner) == NOBODY):
        raise EmbeddedServerError(
            f"The folder {folder} belongs to the user {_name(owner)}: run as that user, choose another data folder "
            "(BACKFILL_DATA_DIR), or set DATABASE_URL."
        )


def unusable(folder: Path, error: OSError) -> str:
    """The sentence for a folder that the system does not let us read or write."""
    return (
        f"Cannot keep a database in {folder} ({error.strerror or error}): choose a data folder that you can write to "
        "(BACKFILL_DATA_DIR), or set DATABASE_URL."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without PG…, which would redirect the programs, and with the C locale, which every system has."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    path = os.pathsep.join(filter(None, (environ.get("PATH"), os.defpath)))
    return kept | {"PATH": path, "LC_ALL": "C"}
