"""Keep the Dagster UI, the status page, the daemon and the code servers that both share running."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Never

import httpx
import yaml
from dagster._check import CheckError
from dagster._core.errors import DagsterInvalidConfigError, DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._grpc.client import DagsterGrpcClient

from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.private_api import MAX_OVERFLOW
from backfill_assets.deployment.services import (
    PLAIN_LOGS,
    STATUS_PAGE,
    WEBSERVER,
    Address,
    LogStyle,
    Service,
    end_orphans,
    started_by_this_process,
)
from backfill_assets.domain.errors import BackfillError, SettingMistake
from backfill_assets.domain.sessions import horizon

_POLL_SECONDS = 0.2
_CHECK_SECONDS = 5
"""How often code servers are checked, which is also the least time between two restarts of one."""

_RELOAD_PAUSE_SECONDS = 60
"""How long code that was lost and reloaded is not checked: if it needs too much memory, it is killed again at once."""

_RELOAD_SECONDS = 180
"""Dagster's limit for loading code: DEFAULT_LOCAL_CODE_SERVER_STARTUP_TIMEOUT."""


class ServiceStopped(BackfillError):
    """A service exited by itself."""


class UniverseWatcher:
    """Detects changes of what the code was loaded with: the universe file, and the year, which moves the calendars' end.

    say   receives what a user should know, one sentence at a time
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._say = say
        self._now = now
        self._loaded = self._last = self._state()

    def changed(self) -> bool:
        """Whether to load the code again. A file that changed since the last call may still be being written: not yet."""
        state, last = self._state(), self._last
        self._last = state
        if state == self._loaded or state != last:
            return False
        reason = "New year" if state[0] == self._loaded[0] else "Universe file changed"
        self._loaded = state
        try:
            universe = self._settings.universe(self._now().date())
        except BackfillError as error:
            self._say(f"The previous universe stays in use: {error}")
            return False
        self._say(f"{reason}; reloading.")
        for warning in universe.warnings():
            self._say(warning)
        return True

    def _state(self) -> tuple[tuple[int, ...] | None, date]:
        end = horizon(self._now().date())
        try:
            found = self._settings.universe_file.stat()
        except OSError:
            return None, end
        return (found.st_ino, found.st_size, found.st_mtime_ns), end


class Supervisor:
    """Runs the services of a project folder.

    address  where the Dagster UI listens
    status   where the status page listens
    style    of Dagster's logs
    stack   stops the services when it closes
    say     receives what a user should know, one sentence at a time
    """

    def __init__(
        self,
        settings: Settings,
        address: Address,
        status: Address,
        style: LogStyle,
        stack: ExitStack,
        say: Callable[[str], None],
    ) -> None:
        self.logs = make_private_folder(settings.data / "logs")
        self._settings = settings
        self._address, self._status, self._style = address, status, style
        self._stack = stack
        self._say = say
        self._universe = UniverseWatcher(settings, say)
        self._services: list[Service] = []
        self._code_servers: dict[Path, Service] = {}

    def start(self) -> None:
        """Start all services; return when UI and status page respond. Raises ServiceStopped if one exits before."""
        # Private, and short: the path of a socket has at most 107 bytes, which rules out the data folder.
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="backfill-")))
        self._stack.callback(end_orphans, self._settings.data)
        servers, commands = code_locations(self._settings.project / "workspace.yaml", folder)
        logs = ("--log-level", self._style.level, "--log-format", self._style.format)
        for number, (socket, command) in enumerate(commands.items()):
            name = "code-server" if len(commands) == 1 else f"code-server-{number}"
            self._code_servers[socket] = self._start(name, (*command, *logs), socket)
        self._wait_until(lambda: all(server.is_listening() for server in self._code_servers.values()))
        workspace = folder / "workspace.yaml"
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": one} for one in servers]}))  # JSON is YAML
        python, where = (sys.executable, "-m", PLAIN_LOGS), ("-w", str(workspace))
        address = ("-h", str(self._address.host), "-p", str(self._address.port))
        connections = ("--db-pool-max-overflow", str(MAX_OVERFLOW))
        dagster_logs = ("--dagster-log-level", *logs[1:])
        self._start("webserver", (*python, WEBSERVER, *where, *address, *connections, *dagster_logs))
        self._start("daemon", (*python, "dagster._daemon", "run", *where, *logs))
        self._start("status-page", (sys.executable, "-m", STATUS_PAGE, str(self._status.host), str(self._status.port)))
        self._wait_until(lambda: _responds(f"{self._address.url}/server_info"))
        self._wait_until(lambda: _responds(f"{self._status.url}/healthz"))

    def watch(self, still_only: Callable[[], None]) -> Never:
        """Keep the services running until an exception; reload the code when the universe changes.

        A code server that exits is restarted. Raises ServiceStopped if another service exits, and what `still_only` raises.
        """
        outdated: set[Path] = set()
        next_check = 0.0
        while True:
            self._require_running(service for service in self._services if service.socket is None)
            if self._universe.changed():
                outdated.update(self._code_servers)
            if time.monotonic() >= next_check:
                still_only()
                for service in self._services:
                    service.rotate_log()
                next_check = time.monotonic() + _CHECK_SECONDS
                for socket, server in self._code_servers.items():
                    if (code := server.process.poll()) is not None:
                        self._say(f"Service {server.name} exited with code {code}; restarting it. Log: {server.log}")
                        server.start()
                    elif server.has_lost_code():
                        outdated.add(socket)
                        next_check = time.monotonic() + _RELOAD_PAUSE_SECONDS
            for socket in [socket for socket in outdated if self._code_servers[socket].is_listening()]:
                reload_code(socket)
                outdated.remove(socket)
            time.sleep(_POLL_SECONDS)

    def _start(self, name: str, command: Sequence[str], socket: Path | None = None) -> Service:
        environment = {
            **os.environ,
            **started_by_this_process(self._settings.data),
            "DAGSTER_HOME": str(self._settings.project),
            # Where links in messages lead, unless it is set.
            "DAGSTER_UI_URL": os.environ.get("DAGSTER_UI_URL") or os.environ.get("DAGIT_URL") or self._address.url,
            "BACKFILL_STATUS_URL": os.environ.get("BACKFILL_STATUS_URL") or self._status.url,
        }
        service = Service(name, command, self.logs / f"{name}.log", environment, socket)
        service.start()
        self._stack.callback(service.stop)
        self._services.append(service)
        return service

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._require_running(self._services)
            time.sleep(_POLL_SECONDS)
        self._require_running(self._services)

    def _require_running(self, services: Iterable[Service]) -> None:
        for service in services:
            if (code := service.process.poll()) is not None:
                raise ServiceStopped(f"Service {service.name} exited with code {code}. See its log: {service.log}")


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def code_locations(workspace: Path, folder: Path) -> tuple[list[dict[str, object]], dict[Path, tuple[str, ...]]]:
    """Read a workspace file.

    Returns the `grpc_server` entry of each code location, and by socket the commands that start a server for each location
    that has none yet. The sockets are in `folder`. Raises SettingMistake if Dagster cannot read the file.
    """
    try:
        origins = location_origins_from_yaml_paths([str(workspace)])
    except (CheckError, DagsterInvalidConfigError, yaml.YAMLError, OSError) as error:
        reason = error.errors[0].message if isinstance(error, DagsterInvalidConfigError) else str(error)
        reason = " ".join(reason.partition(" Expected: ")[0].rpartition("Description: ")[2].split())
        raise SettingMistake(f"Dagster cannot read {workspace}: {reason.removesuffix('.')}.") from None
    servers: list[dict[str, object]] = []
    commands: dict[Path, tuple[str, ...]] = {}
    for number, origin in enumerate(origins):
        if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin):
            target, socket = origin.loadable_target_origin, folder / f"{number}.sock"
            commands[socket] = (
                *(target.executable_path or sys.executable, "-m", "dagster", "code-server", "start", "-s", str(socket)),
                *(("--use-python-environment-entry-point",) if target.executable_path else ()),
                *("--location-name", origin.location_name, *target.get_cli_args()),
            )
            # Dagster requires a host beside the socket, and ignores it.
            where: dict[str, object] = {"host": "localhost", "socket": str(socket)}
            where["additional_metadata"] = target.as_dict
        elif isinstance(origin, GrpcServerCodeLocationOrigin):
            where = {"host": origin.host, "port": origin.port, "socket": origin.socket, "ssl": origin.use_ssl}
            where["additional_metadata"] = origin.additional_metadata
        else:
            raise TypeError(f"unknown kind of code location: {type(origin).__name__}")
        where["location_name"] = origin.location_name
        servers.append({k: v for k, v in where.items() if v is not None})
    return servers, commands


def reload_code(socket: Path) -> None:
    """Make a code server load its code again; its clients notice. Runs that have started keep the old code.

    Does nothing if the server cannot be reached. If the code cannot be loaded, the Dagster UI shows why.
    """
    with suppress(DagsterUserCodeUnreachableError):
        DagsterGrpcClient(socket=str(socket)).reload_code(timeout=_RELOAD_SECONDS)
