"""Dagster's programs as services of `backfill up`: their address, starting and stopping them, and ending leftover ones."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

import psutil

from backfill_assets.adapters.private_files import open_private
from backfill_assets.adapters.processes import find, identity
from backfill_assets.domain.errors import SettingMistake, UsageMistake

STARTED_BY = "BACKFILL_STARTED_BY"
"""Environment variable of services and of what they start: the host, the `backfill up` process, and its data folder."""

WEBSERVER = "backfill_assets.deployment.webserver"
STATUS_PAGE = "backfill_assets.web.server"
PLAIN_LOGS = "backfill_assets.deployment.plain_logs"
_PROGRAMS = frozenset({WEBSERVER, STATUS_PAGE, "dagster._daemon", "code-server"})
_STOP_SECONDS = 20
_IDLE_SECONDS = 5
_LEVELS = ("debug", "info", "warning", "error", "critical")
_MOST_LOG_BYTES, _KEPT_LOGS = 10_000_000, 3


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of this machine and a TCP port, on which the Dagster UI or the status page listens."""

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @classmethod
    def parse(cls, host: str, port: int, *, behind_proxy: bool) -> Self:
        """Parse the options of the command line; `localhost` is 127.0.0.1.

        Raises UsageMistake for an invalid address, and for an address that other machines can reach unless a
        proxy is in front of it.
        """
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise UsageMistake(
                f"--host {host!r} is not an IP address: use 127.0.0.1, ::1, 0.0.0.0 or an address of this machine."
            ) from None
        if not (address.is_loopback or behind_proxy):
            raise UsageMistake(
                f"--host {host} is reachable from other machines, and the Dagster UI (Dagit) and the status page "
                "have no login: anyone who reaches the UI can launch and delete. Put a proxy with a login in front of it and "
                "add --i-have-a-proxy, or leave out --host."
            )
        return cls(address, port)

    @property
    def url(self) -> str:
        """The URL for a browser on this machine, without a trailing slash."""
        host = self.host
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")  # IPv4
        return f"http://{f'[{host}]' if host.version == 6 else host}:{self.port}"  # IPv6

    def require_free(self) -> None:
        """Raise SettingMistake if the address cannot be listened on, for instance because the port is in use."""
        with socket.socket(socket.AF_INET if self.host.version == 4 else socket.AF_INET6) as probe:  # IPv4
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((str(self.host), self.port))
            except OSError as error:
                raise SettingMistake(
                    f"Cannot listen on port {self.port} of {self.host}: {error.strerror}. "
                    "Choose another port with --port or --status-port, or an address of this machine with --host."
                ) from None


@dataclass(frozen=True, slots=True)
class LogStyle:
    """From which level on Dagster's programs log, and how, as their options have it."""

    level: str = "info"
    format: str = "colored"

    @classmethod
    def parse(cls, level: str, form: str) -> Self:
        """Parse the options of the command line. Raises UsageMistake."""
        if level not in _LEVELS:
            raise UsageMistake(f"--log-level must be one of {', '.join(_LEVELS)}, not {level!r}.")
        if form not in {"text", "json"}:
            raise UsageMistake(f"--log-format must be text or json, not {form!r}.")
        return cls(level, "json" if form == "json" else "colored")


@dataclass(slots=True)
class Service:
    """A program that `backfill up` keeps running.

    log      output is appended to this file
    socket   for a code server: where it listens. It loads the code in a process of its own, and forwards calls to it
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    socket: Path | None = None
    process: psutil.Popen = field(init=False)

    def start(self) -> None:
        """Start the program. Only its owner can read its log and what it writes."""
        with os.fdopen(open_private(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as output:
            self.process = psutil.Popen(
                self.command,
                # Not the project's folder: Dagster loads a `.env` of the working folder over the environment.
                cwd=self.log.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C must reach `backfill up` alone, which then stops all services in order.
                start_new_session=True,
                umask=0o077,
            )

    def stop(self) -> None:
        """Stop the program, and wait until it has exited. Runs of a code server continue without it."""
        _end([self.process], _STOP_SECONDS if self.socket is None else _IDLE_SECONDS)

    def rotate_log(self) -> None:
        """Move a long log to `….log.1`, the one before to `….log.2`, and so on. The program keeps its file open."""
        if self.log.stat().st_size < _MOST_LOG_BYTES:
            return
        kept = [self.log.with_name(f"{self.log.name}.{number}") for number in range(1, _KEPT_LOGS + 1)]
        for newer, older in reversed([*pairwise(kept)]):
            if newer.exists():
                newer.replace(older)
        with (
            self.log.open("rb") as now,
            os.fdopen(open_private(kept[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as copy,
        ):
            shutil.copyfileobj(now, copy)
        os.truncate(self.log, 0)

    def is_listening(self) -> bool:
        """Whether a code server accepts connections, which it does once it has tried to load the code."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def has_lost_code(self) -> bool:
        """Whether the process with the code has died: the code server does not replace it."""
        return self.is_listening() and not self.process.children()


def started_by_this_process(data: Path) -> dict[str, str]:
    """Return the variable that marks the services of this process over a data folder."""
    return {STARTED_BY: f"{socket.gethostname()} {identity(os.getpid())} {data}"}


def end_orphans(data: Path) -> int:
    """End what this process, or one that was killed, left running over a data folder; return how many services there were.

    A process that executes a run is left running.
    """
    me = identity(os.getpid())
    orphans = [process for starter, process in marked(data) if starter == me or find(starter) is None]
    services = [process for process in orphans if _PROGRAMS & set(process.info["cmdline"])]
    _end(services, _STOP_SECONDS)
    # Processes with code exit once nobody calls them and their runs have ended. But the thread that does this dies at its
    # first error, for instance if the database is unavailable (`_cleanup_thread` in dagster/_grpc/server.py, 1.13). Then
    # the process stays, with 200 MB.
    with_code = [process for process in orphans if {"api", "grpc"} <= set(process.info["cmdline"])]
    _, alive = psutil.wait_procs(with_code, timeout=_IDLE_SECONDS)
    _end([process for process in alive if not _executes_run(process)], _STOP_SECONDS)
    return len(services)


def marked(data: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield services over a data folder, and what they started, each with the identity of its `backfill up` process."""
    for process in psutil.process_iter(["environ", "cmdline"]):  # each is None for another user's process
        host, starter, folder = (process.info["environ"] or {}).get(STARTED_BY, "  ").split(" ", 2)
        if process.info["cmdline"] and (host, folder) == (socket.gethostname(), str(data)):
            yield starter, process


def _executes_run(process: psutil.Process) -> bool:
    return any(
        other.info["ppid"] == process.pid and "multiprocessing.spawn" in " ".join(other.info["cmdline"] or ())
        for other in psutil.process_iter(["ppid", "cmdline"])
    )


def _end(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Terminate processes, and kill those still running after some seconds."""
    for process in processes:
        with suppress(psutil.Error):  # it has exited
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=seconds)
