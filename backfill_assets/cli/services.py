"""The programs that make the platform live: Dagit's webserver, Dagster's daemon, and the code servers that both use."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.address import Address
from backfill_assets.cli.service import STOP_SECONDS, CodeServer, Service, started
from backfill_assets.deployment.code_locations import CodeLocation, code_locations, workspace_of
from backfill_assets.domain.errors import BackfillError

_POLL_SECONDS = 0.2
_STOP_CODE_SECONDS = 5
"""A code server whose runs go on is not waited for: they end without it."""

_LOOK_SECONDS = 5
_LOST_SECONDS = 60
"""So often it is looked whether code is still there, and so long after it was lost, which it may be again at once."""


class ServiceStopped(BackfillError):
    """One of the programs ended by itself."""


class Services:
    """All programs over one project folder, in this process's environment. A context manager that stops them."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self._workspace = settings.project / "workspace.yaml"
        self._project = settings.project
        self._logs = settings.data / "logs"
        self._notes = notes(settings)
        self._address = address
        self._running: list[Service] = []
        self._code: list[CodeServer] = []
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
        make_private_folder(self._logs)
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
        served = self._serve(folder, code_locations(self._workspace))
        workspace.write_text(workspace_of(served), encoding="utf-8")
        self._until(lambda: all(code.is_loaded() for code in self._code))
        where = ("-h", str(self._address.host), "-p", str(self._address.port))
        python = (sys.executable, "-m")
        self._start("webserver", (*python, "dagster_webserver", "-w", str(workspace), *where))
        self._start("daemon", (*python, "dagster._daemon", "run", "-w", str(workspace)))
        self._until(self._dagit_answers)

    def watch(self, changed: Callable[[], bool]) -> None:
        """Return never while all run, and load the code anew where it `changed` or is lost. Raises ServiceStopped."""
        at = time.monotonic()
        while True:
            self._require_running()
            stale: list[CodeServer] = []
            if changed():
                stale = self._code
            elif time.monotonic() >= at:
                stale = [code for code in self._code if code.is_lost()]
                at = time.monotonic() + (_LOST_SECONDS if stale else _LOOK_SECONDS)
            for code in stale:
                code.reload()
            time.sleep(_POLL_SECONDS)

    def _serve(self, folder: Path, locations: Sequence[CodeLocation]) -> list[CodeLocation]:
        served = []
        for number, location in enumerate(locations):
            at = folder / f"{number}.sock"
            if location.command is not None:
                name = "code-server" if len(locations) == 1 else f"code-server-{number}"
                service = self._start(name, (*location.command, "-s", str(at)), _STOP_CODE_SECONDS)
                self._code.append(CodeServer(service, at))
            served.append(location.served_at(at))
        return served

    def _until(self, true: Callable[[], bool]) -> None:
        self._require_running()
        while not true():
            time.sleep(_POLL_SECONDS)
            self._require_running()

    def _require_running(self) -> None:
        for service in self._running:
            code = service.process.poll()
            if code is not None:
                raise ServiceStopped(f"The {service.name} ended with code {code}; its log is {service.log}.")

    def _dagit_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/server_info", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _start(self, name: str, command: Sequence[str], patience: float = STOP_SECONDS) -> Service:
        environment = os.environ | {
            "DAGSTER_HOME": str(self._project),
            # Where messages link to, unless a setting says what others reach Dagit by.
            "DAGSTER_UI_URL": os.environ.get("DAGSTER_UI_URL") or os.environ.get("DAGIT_URL") or self.url,
        }
        service = started(self._stack, name, command, self._logs, self._notes, environment, patience)
        self._running.append(service)
        return service


def notes(settings: Settings) -> Path:
    """The folder of the notes on running services, for `orphans`."""
    return settings.data / "services"
