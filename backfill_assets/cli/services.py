"""The programs that make the platform live: Dagit's webserver, Dagster's daemon, and the code servers that both use.

What lives here: starting them in their order, knowing when Dagit answers, having the code loaded anew, stopping all. What
does not: when that is needed (`universe_changes`), and what is said to the person.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from backfill_assets.adapters.private_files import open_private, private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.address import Address
from backfill_assets.cli.code_servers import code_servers, end_idle
from backfill_assets.cli.orphans import note
from backfill_assets.code_locations import CodeLocation, code_locations, reload_code, workspace_of
from backfill_assets.domain.errors import BackfillError

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20
_STOP_CODE_SECONDS = 5
"""A code server whose runs go on is not waited for: they end without it."""

_LOOK_SECONDS = 5
_LOST_SECONDS = 60
"""So often it is looked whether code is still there, and so long after it was lost, which it may be again at once."""

_LOAD_SECONDS = 180
"""So long code may take to load anew, as Dagster gives it (`DEFAULT_LOCAL_CODE_SERVER_STARTUP_TIMEOUT`)."""


class ServiceStopped(BackfillError):
    """One of the programs ended by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    """One program, running, with the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    noted: Path
    patience: float = _STOP_SECONDS

    def stop(self) -> None:
        """Ask it to end, and wait; end it where it does not. A code server of it with a run stays noted, for `orphans`."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if end_idle(code_servers(self.process.pid)):
            self.noted.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Code:
    """A code location's server: a program that passes on what it is asked to the one that has the code loaded."""

    service: Service
    socket: Path

    def is_loaded(self) -> bool:
        """Whether it answers, which it does once its code is loaded, or has failed to."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0

    def is_lost(self) -> bool:
        """Whether the one that has the code is gone, as when memory is used up: nobody else starts it again."""
        return not code_servers(self.service.process.pid)

    def reload(self) -> None:
        """Load the code anew. Where the server itself is gone, whoever watches it says so."""
        reload_code(self.socket, _LOAD_SECONDS)


class Services:
    """All programs over one project folder, in this process's environment. A context manager that stops them."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self._workspace = settings.project / "workspace.yaml"
        self._project = settings.project
        self._logs = settings.data / "logs"
        self._notes = notes(settings)
        self._address = address
        self._running: list[Service] = []
        self._code: list[_Code] = []
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where Dagit is."""
        return self._address.url

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self._logs

    def __enter__(self) -> Self:
        self._address.require_free()
        private_folder(self._logs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start all; return when Dagit answers. Raises ServiceStopped where one of them ends before."""
        # Only we get into it. A socket's path has 107 bytes at the most, so it does not lie in the data folder.
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="backfill-")))
        workspace = folder / "workspace.yaml"
        workspace.write_text(workspace_of(self._serve(folder, code_locations(self._workspace))), encoding="utf-8")
        self._until(lambda: all(code.is_loaded() for code in self._code))
        where = ("-h", str(self._address.host), "-p", str(self._address.port))
        python = (sys.executable, "-m")
        self._start("webserver", (*python, "dagster_webserver", "-w", str(workspace), *where))
        self._start("daemon", (*python, "dagster._daemon", "run", "-w", str(workspace)))
        self._until(self._dagit_answers)

    def watch(self, changed: Callable[[], bool]) -> None:
        """Return never while all run, and load the code anew where it `changed` or is lost. Raises ServiceStopped."""
        at = time.monotonic()

        def looked() -> bool:
            nonlocal at
            if changed():
                lost = self._code
            elif time.monotonic() >= at:
                lost = [code for code in self._code if code.is_lost()]
                at = time.monotonic() + (_LOST_SECONDS if lost else _LOOK_SECONDS)
            else:
                return False
            for code in lost:
                code.reload()
            return False

        self._until(looked)

    def _serve(self, folder: Path, locations: Sequence[CodeLocation]) -> Iterator[CodeLocation]:
        for number, location in enumerate(locations):
            at = folder / f"{number}.sock"
            if location.command is not None:
                name = "code-server" if len(locations) == 1 else f"code-server-{location.name}"
                service = self._start(name, (*location.command, "-s", str(at)), _STOP_CODE_SECONDS)
                self._code.append(_Code(service, at))
            yield location.served_at(at)

    def _until(self, true: Callable[[], bool]) -> None:
        while True:
            for service in self._running:
                code = service.process.poll()
                if code is not None:
                    raise ServiceStopped(f"The {service.name} ended with code {code}; its log is {service.log}.")
            if true():
                return
            time.sleep(_POLL_SECONDS)

    def _dagit_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/server_info", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _start(self, name: str, command: Sequence[str], patience: float = _STOP_SECONDS) -> Service:
        log = self._logs / f"{name}.log"
        output = self._stack.enter_context(os.fdopen(open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab"))
        # A session of its own: Ctrl-C reaches this program, which then stops all in order.
        process = subprocess.Popen(  # noqa: S603  # an interpreter and modules that are ours or the workspace's
            command,
            # Not the project's folder: Dagster loads a `.env` of its working folder over the environment.
            cwd=self._logs,
            env=os.environ
            | {
                "DAGSTER_HOME": str(self._project),
                # Where messages link to, unless a setting says what others reach Dagit by.
                "DAGIT_URL": os.environ.get("DAGIT_URL") or self.url,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # What Dagster writes by itself, and the runs that the code server starts.
            umask=0o077,
        )
        service = Service(name, process, log, note(self._notes, process.pid), patience)
        self._stack.callback(service.stop)
        self._running.append(service)
        return service


def notes(settings: Settings) -> Path:
    """The folder of the notes on running services, for `orphans`."""
    return settings.data / "services"
