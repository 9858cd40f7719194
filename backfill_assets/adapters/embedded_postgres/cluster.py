"""The files of one embedded cluster.

postgres/            0700
├── data/            PostgreSQL's own; data/embedded.conf is rewritten at every start
├── url              0600, the URL of the last start: current only while the server runs
├── password         0600, random, created with the cluster
├── lock             held by a process that starts or stops the server
├── alive            held by the server
├── server.log       PostgreSQL's log
└── control.log      output of the last initdb or pg_ctl
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from backfill_assets.adapters.embedded_postgres.binaries import Binaries
from backfill_assets.adapters.embedded_postgres.privileges import Runner
from backfill_assets.adapters.private_files import open_private
from backfill_assets.domain.errors import EmbeddedServerError

HOST = "127.0.0.1"
USER = "postgres"
DATABASE = "market"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes: sun_path in unix(7)
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Settings of every start, with enough connections for Dagster and WAL for a backfill between two checkpoints."""

ONE_ITERATION: Mapping[str, str] = {"scram_iterations": "1"}
"""A random password of 192 bits needs no key stretching, and 4096 iterations slow every connection."""

FIRST_MAJOR_WITH_SCRAM_ITERATIONS = 16  # postgresql.org/docs/16/release-16.html


class Cluster:
    """The cluster in `home`, which may not exist yet. `extra` are PostgreSQL settings that override `SETTINGS`."""

    def __init__(self, home: Path, extra: Mapping[str, str]) -> None:
        self.home = home
        self.data = home / "data"
        self.lock = home / "lock"
        self.alive = home / "alive"
        self.server_log = home / "server.log"
        self.control_log = home / "control.log"
        self._extra = dict(extra)

    def major(self) -> int | None:
        """Return the version of PostgreSQL that created the cluster; None if there is none."""
        text = self._read("data/PG_VERSION")
        return int(text) if text else None

    def create(self, binaries: Binaries, runner: Runner) -> None:
        """Create the cluster, under another name first, so that a killed initdb leaves nothing that looks like a cluster.

        Raises EmbeddedServerError if initdb fails.
        """
        for unfinished in self.home.glob("unfinished-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        new = self.home / f"unfinished-{secrets.token_hex(4)}"
        self._write("password", secrets.token_urlsafe(24))
        runner.take_ownership(self.home)
        arguments = [f"--pgdata={new.name}", f"--username={USER}", "--pwfile=password", "--auth=scram-sha-256"]
        arguments += ["--encoding=UTF8", "--no-locale"]
        # the stored password keeps the number of iterations it was created with
        arguments += [f"--set={name}={value}" for name, value in _iterations(binaries).items()]
        if self._extra.get("fsync") == "off":
            arguments.append("--no-sync")
        if self.run(runner, binaries.program("initdb"), arguments) != 0:
            raise EmbeddedServerError(
                f"The embedded database could not be created ({last_error(self.control_log)}): see {self.control_log}, "
                "or set DATABASE_URL."
            )
        with (new / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("\ninclude 'embedded.conf'\n# add your settings below: the last one applies\n")
        new.rename(self.data)

    def configure(self, binaries: Binaries, port: int) -> None:
        """Write the settings for the next start."""
        settings = {**SETTINGS, **_iterations(binaries), **self._extra, "port": str(port)}
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        self._write(
            "data/embedded.conf", "# Rewritten at every start: edit postgresql.conf instead.\n" + "".join(lines)
        )

    def run(self, runner: Runner, program: Path, arguments: Sequence[str], *, inherited: Sequence[int] = ()) -> int:
        """Run one of PostgreSQL's programs in the folder, with its output in control.log; return the exit status."""
        with os.fdopen(open_private(self.control_log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as log:
            return runner.run([program, *arguments], folder=self.home, log=log, inherited=inherited)

    def url_on(self, port: int, database: str = DATABASE) -> str:
        """Return the URL of a database on `port` with the password. Raises EmbeddedServerError if the password is lost."""
        if (password := self._read("password")) is None:
            raise EmbeddedServerError(
                f"The file {self.home / 'password'} is missing: restore it, or stop the server and delete {self.home} "
                "to start with an empty database."
            )
        return f"postgresql://{USER}:{password}@{HOST}:{port}/{database}"

    def publish(self, url: str) -> None:
        """Update the file `url`."""
        if self._read("url") != url:
            self._write("url", url)

    def last_port(self) -> int:
        """Return the port of the last start; 0 if there was none."""
        port = (self._read("url") or "").rpartition(":")[2].partition("/")[0]
        return int(port) if port.isdecimal() else 0

    def _read(self, name: str) -> str | None:
        try:
            return (self.home / name).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        """Replace a file atomically, readable by the owner only."""
        new = self.home / f"{name}.{secrets.token_hex(4)}"
        with os.fdopen(open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(self.home / name)


def last_error(log: Path) -> str:
    """Return the last line of a log with an error, else its last line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    errors = [line for line in lines if any(word in line for word in ("FATAL:", "PANIC:", "error:", "fatal:"))]
    return (errors or lines or ["it logged nothing"])[-1].strip()


def _iterations(binaries: Binaries) -> Mapping[str, str]:
    return ONE_ITERATION if binaries.major >= FIRST_MAJOR_WITH_SCRAM_ITERATIONS else {}


def _quoted(value: str) -> str:
    """Quote a value for postgresql.conf: postgresql.org/docs/18/config-setting.html."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
