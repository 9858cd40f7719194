"""The two programs that make the platform live: Dagit's webserver and Dagster's daemon.

What lives here: starting them, knowing when Dagit answers, stopping both. What does not: what is said to the person.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
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
from backfill_assets.domain.errors import BackfillError

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20


class ServiceStopped(BackfillError):
    """The webserver or the daemon ended by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    """One program, running, with the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    noted: Path

    def stop(self) -> None:
        """Ask it to end, and wait; end it where it does not. A code server of it with a run stays noted, for `orphans`."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if end_idle(code_servers(self.process.pid)):
            self.noted.unlink(missing_ok=True)


class Services:
    """Webserver and daemon over one project folder, in this process's environment. A context manager that stops both."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self._project = settings.project
        self._logs = settings.data / "logs"
        self._notes = notes(settings)
        self._address = address
        self._running: list[Service] = []
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where Dagit is."""
        return self._address.url

    @property
    def logs(self) -> Path:
        """The folder of both programs' logs."""
        return self._logs

    def __enter__(self) -> Self:
        self._address.require_free()
        private_folder(self._logs)
        workspace = str(self._project / "workspace.yaml")
        with ExitStack() as stack:
            where = ("-h", str(self._address.host), "-p", str(self._address.port))
            self._start(stack, "webserver", "dagster_webserver", "-w", workspace, *where)
            self._start(stack, "daemon", "dagster._daemon", "run", "-w", workspace)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_until_up(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Return when Dagit answers. Raises ServiceStopped where one of the two ends before."""
        while True:
            self.require_running()
            try:
                if httpx.get(f"{self.url}/server_info", timeout=5, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            sleep(_POLL_SECONDS)

    def watch(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Return never while both run. Raises ServiceStopped when one of them ends."""
        while True:
            self.require_running()
            sleep(_POLL_SECONDS)

    def require_running(self) -> None:
        """Raise ServiceStopped where one of the two has ended."""
        for service in self._running:
            code = service.process.poll()
            if code is not None:
                raise ServiceStopped(f"The {service.name} ended with code {code}; its log is {service.log}.")

    def _start(self, stack: ExitStack, name: str, module: str, *arguments: str) -> None:
        log = self._logs / f"{name}.log"
        output = stack.enter_context(os.fdopen(open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab"))
        # A session of its own: Ctrl-C reaches this program, which then stops both in order.
        process = subprocess.Popen(  # noqa: S603  # our own interpreter, fixed modules
            [sys.executable, "-m", module, *arguments],
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
            # What Dagster writes by itself, and the runs that the daemon starts.
            umask=0o077,
        )
        service = Service(name, process, log, note(self._notes, process.pid))
        stack.callback(service.stop)
        self._running.append(service)


def notes(settings: Settings) -> Path:
    """The folder of the notes on running services, for `orphans`."""
    return settings.data / "services"
