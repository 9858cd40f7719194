"""Start, find and stop the server of a folder.

The server is independent of Python processes: the first one that needs it starts it, the others reuse it, and it runs until
`stop()` or shutdown.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filelock
import psutil
import psycopg

from backfill_assets.adapters.embedded_postgres.binaries import find_binaries
from backfill_assets.adapters.embedded_postgres.cluster import DATABASE, HOST, Cluster, last_error
from backfill_assets.adapters.embedded_postgres.privileges import folder_error, require_owner, runner_for
from backfill_assets.adapters.embedded_postgres.processes import (
    Postmaster,
    clear_reused_pid,
    find_postmaster,
    is_locked,
    lock_held,
    wait_until,
)
from backfill_assets.adapters.private_files import make_data_folder
from backfill_assets.domain.errors import DatabaseUnavailable, EmbeddedServerError

CONNECT_SECONDS = 10
START_SECONDS = 600  # the recovery of `max_wal_size` after a crash, on a slow disk
LOCK_SECONDS = START_SECONDS  # a start by another process
SETTLE_SECONDS = 60
STOP_SECONDS = 120  # the last checkpoint on a slow disk
PORTS_TRIED = 4


class EmbeddedPostgres:
    """The server of the data folder `folder`. Constructing it has no side effects.

    `extra_configuration` are PostgreSQL settings that override the defaults when this object starts the server; a running one
    keeps its settings. `environ` is read for PATH and PG_BINDIR.

    Every method raises EmbeddedServerError if the server cannot be set up, started or stopped, or if the folder belongs to
    another user.
    """

    def __init__(
        self,
        folder: Path,
        *,
        extra_configuration: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.folder = folder.absolute()
        self._cluster = Cluster(self.folder / "postgres", extra_configuration or {})
        self._environ = environ

    def url(self, start: bool = True) -> str:  # noqa: FBT001, FBT002 # called as url(start=False)
        """Return the database's URL: `postgresql://postgres:…@127.0.0.1:<port>/market`.

        Creates the cluster and starts the server if necessary; the port may change at a start. Raises DatabaseUnavailable if
        the server refuses the connection, or with `start=False` if it is not running.
        """
        with self._checked():
            if (url := self._usable_url()) is not None:
                return url
            if not start and self._postmaster() is None:
                raise DatabaseUnavailable(
                    f"The embedded database in {self.folder} is not running: start it, or set DATABASE_URL."
                )
            make_data_folder(self.folder)
            self._cluster.home.mkdir(mode=0o700, exist_ok=True)
            require_owner(self._cluster.home)  # it may have been made by another user meanwhile
            with self._exclusive():
                return self._usable_url() or self._settled_url()

    def running(self) -> bool:
        """Return whether a server process, possibly still starting, serves the folder."""
        with self._checked():
            return self._postmaster() is not None

    def stop(self) -> bool:
        """Stop the server, rolling back open transactions; return True if it was running."""
        with self._checked():
            if self._postmaster() is None:
                return False
            with self._exclusive():
                if (postmaster := self._postmaster()) is None:
                    return False
                self._end(postmaster)
                return True

    def _postmaster(self) -> Postmaster | None:
        return find_postmaster(self._cluster.data, self._cluster.alive)

    def _is_gone(self) -> bool:
        """Whether there is no server, no child of a killed one, and none in another container."""
        return self._postmaster() is None and not is_locked(self._cluster.alive)

    def _is_settled(self) -> bool:
        postmaster = self._postmaster()
        return self._is_gone() if postmaster is None else postmaster.ready

    def _usable_url(self) -> str | None:
        """The URL if a connection works; None if something has to be done first."""
        postmaster = self._postmaster()
        if postmaster is None or postmaster.moved or not postmaster.ready:
            return None
        url = self._cluster.url_on(postmaster.port)
        try:
            _connect(url).close()
        except psycopg.OperationalError as error:
            if "too many clients" not in str(error):  # otherwise it is only busy
                return None
        self._cluster.publish(url)
        return url

    def _settled_url(self) -> str:
        """Create and start what is missing, with the lock held."""
        cluster = self._cluster
        if not wait_until(self._is_settled, SETTLE_SECONDS):
            raise EmbeddedServerError(
                f"A PostgreSQL server uses {cluster.home} but accepts no connections, because it is starting, stopping, or "
                f"in another container: read {cluster.server_log}, stop it there, or set DATABASE_URL."
            )
        if (postmaster := self._postmaster()) is not None and postmaster.moved:
            self._end(postmaster)
        port = (self._postmaster() or self._start()).port
        url = cluster.url_on(port)
        try:
            with _connect(cluster.url_on(port, "postgres")) as connection:
                exists = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                if exists is None:
                    connection.execute(f'create database "{DATABASE}"')
            _connect(url).close()
        except psycopg.OperationalError as error:
            reason = str(error).strip().partition("\n")[0]
            raise DatabaseUnavailable(
                f"The embedded server in {self.folder} runs but refuses the connection ({reason}): unset PG… variables "
                "meant for another server, or set DATABASE_URL."
            ) from error
        cluster.publish(url)
        return url

    def _end(self, postmaster: Postmaster) -> None:
        try:
            postmaster.process.send_signal(signal.SIGINT)  # "fast": postgresql.org/docs/18/server-shutdown.html
        except psutil.NoSuchProcess:
            pass  # it has ended; its children may still be running
        except psutil.AccessDenied as error:
            raise EmbeddedServerError(
                f"Process {postmaster.process.pid} serves {self.folder} for another user: stop it as that user."
            ) from error
        if not wait_until(self._is_gone, STOP_SECONDS):
            raise EmbeddedServerError(
                f"The embedded server did not stop in {STOP_SECONDS} s: read {self._cluster.server_log}, then try again."
            )

    def _start(self) -> Postmaster:
        cluster = self._cluster
        existing = cluster.major()
        binaries = find_binaries(self._environ, major=existing)
        runner = runner_for(cluster.home, binaries.program("postgres"), self._environ)
        if existing is None:
            cluster.create(binaries, runner)
        clear_reused_pid(cluster.data)
        arguments = [
            "start",
            "--pgdata=data",
            f"--log={cluster.server_log.name}",
            "--wait",
            f"--timeout={START_SECONDS}",
        ]
        with lock_held(cluster.alive, SETTLE_SECONDS) as descriptor:
            for port in self._ports():
                cluster.configure(binaries, port)
                runner.take_ownership(cluster.home)
                cluster.run(runner, binaries.program("pg_ctl"), arguments, inherited=[descriptor])
                if (postmaster := self._postmaster()) is not None and postmaster.ready:
                    return postmaster
        raise EmbeddedServerError(
            f"The embedded server did not start ({last_error(cluster.server_log)}): read {cluster.server_log}, or set "
            "DATABASE_URL."
        )

    def _ports(self) -> Iterator[int]:
        """Yield the port of the last start, which users may have saved, then free ones."""
        for wanted in (self._cluster.last_port(), *[0] * PORTS_TRIED):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like the server
                try:
                    probe.bind((HOST, wanted))
                except OSError:
                    continue
                port: int = probe.getsockname()[1]
            yield port

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        lock = filelock.FileLock(self._cluster.lock, timeout=LOCK_SECONDS, mode=0o600)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise EmbeddedServerError(
                f"Another process has been starting or stopping the embedded server for {LOCK_SECONDS} s: end the process "
                f"that holds {lock.lock_file}, then try again."
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Check the owner of the folder, and convert OSError to EmbeddedServerError."""
        require_owner(self._cluster.home)
        try:
            yield
        except OSError as error:
            raise EmbeddedServerError(folder_error(self._cluster.home, error)) from error


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
