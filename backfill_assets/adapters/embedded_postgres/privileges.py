"""Run PostgreSQL's programs as a user that PostgreSQL accepts.

PostgreSQL refuses to run as root. For root, its programs run in a user namespace that maps root to an ordinary user. Where
the system forbids that (Docker's default profile, macOS), they run as `nobody`, who becomes the owner of a new server's
folder only.
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

from backfill_assets.adapters.private_files import other_owner
from backfill_assets.domain.errors import EmbeddedServerError

NOBODY = "nobody"
ROOT = 0


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs programs as a user, without the caller's PostgreSQL and locale variables."""

    environment: Mapping[str, str]
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, command: Sequence[str | Path], *, folder: Path, log: IO[bytes], inherited: Sequence[int] = ()) -> int:
        """Run a command in `folder` with its output in `log`; return the exit status.

        The output is a file, since a server started here keeps it open and a pipe's reader would wait. It runs in a new
        session, since Ctrl-C must not stop a server that other processes use. Only the descriptors `inherited` are passed
        on. Raises OSError if it cannot be started.
        """
        return subprocess.run(  # noqa: S603 # own commands, no shell
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
        """Return whether the user can write to `folder` and run `program`."""
        probe: list[str | Path] = ["test", "-w", folder, "-a", "-x", program]
        try:
            with Path(os.devnull).open("wb") as nowhere:
                return self.run(probe, folder=Path("/"), log=nowhere) == 0
        except OSError:
            return False

    def take_ownership(self, folder: Path) -> None:
        """Make the user the owner of everything in `folder`. Links are not followed."""
        if self.uid is None or self.gid is None:
            return
        for parent, folders, files in os.walk(folder):
            for name in (".", *folders, *files):
                os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)


def runner_for(folder: Path, program: Path, environ: Mapping[str, str]) -> Runner:
    """Return the runner for the programs that serve `folder`; `program` is one of them.

    For root it depends on the owner of the folder: files of `nobody` are not accessible in a namespace. The owner of a folder
    that holds a cluster is never changed, and that of a new one only if `nobody` can then use it. Raises
    EmbeddedServerError if no user can run the programs.
    """
    environment = _environment(environ)
    if os.geteuid() != ROOT:
        return Runner(environment)
    owned_by_root = folder.stat().st_uid == ROOT
    unshare = shutil.which("unshare", path=environment["PATH"])
    if unshare is not None and owned_by_root:
        namespace = Runner(environment, (unshare, "--user", "--map-user=65534", "--map-group=65534"))
        if namespace.can_use(folder, program):
            return namespace
    if owned_by_root and (folder / "data").exists():
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and this system allows no user namespace (unshare), with which {folder} was "
            f"created: run where one is allowed, give the folder to another user (chown -R {NOBODY} {folder}), or set "
            "DATABASE_URL."
        )
    try:
        nobody = pwd.getpwnam(NOBODY)
        runner = Runner(environment, (), nobody.pw_uid, nobody.pw_gid)
        runner.take_ownership(folder)
        if runner.can_use(folder, program):
            return runner
    except (KeyError, OSError):
        pass
    if owned_by_root:
        Runner(environment, (), ROOT, ROOT).take_ownership(folder)
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root, and the user {NOBODY} may not use {folder} or run {program}: "
        "run as an ordinary user, choose a data folder (BACKFILL_DATA_DIR) that everybody can enter, or set DATABASE_URL."
    )


def require_owner(folder: Path) -> None:
    """Raise EmbeddedServerError if another user owns `folder`, or made a link in its place."""
    try:
        owner = other_owner(folder, NOBODY if os.geteuid() == ROOT else None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EmbeddedServerError(folder_error(folder, error)) from error
    if owner is not None:
        raise EmbeddedServerError(
            f"The folder {folder} belongs to the user {owner}: run as that user, choose another data folder "
            "(BACKFILL_DATA_DIR), or set DATABASE_URL."
        )


def folder_error(folder: Path, error: OSError) -> str:
    """Return the message for a folder that cannot be read or written."""
    return (
        f"Cannot keep a database in {folder} ({error.strerror or error}): choose a data folder that you can write to "
        "(BACKFILL_DATA_DIR), or set DATABASE_URL."
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Remove PG… variables, which would redirect the programs, and set the C locale, which every system has."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    path = os.pathsep.join(filter(None, (environ.get("PATH"), os.defpath)))
    return kept | {"PATH": path, "LC_ALL": "C"}
