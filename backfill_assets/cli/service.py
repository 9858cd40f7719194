"""One program that `backfill up` keeps running, and the code server among them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from backfill_assets.adapters.private_files import open_private
from backfill_assets.cli.code_servers import code_servers, end_idle
from backfill_assets.cli.orphans import note
from backfill_assets.deployment.code_locations import reload_code

STOP_SECONDS = 20
"""So long a program usually gets to end in order."""

_LOAD_SECONDS = 180
"""So long code may take to load anew, as Dagster gives it (`DEFAULT_LOCAL_CODE_SERVER_STARTUP_TIMEOUT`)."""


@dataclass(frozen=True, slots=True)
class Service:
    """One program, running, with the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    noted: Path
    patience: float = STOP_SECONDS

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


def started(
    stack: ExitStack,
    name: str,
    command: Sequence[str],
    logs: Path,
    notes: Path,
    environment: Mapping[str, str],
    patience: float,
) -> Service:
    """Start a program that writes into a log of its name, and note it; it is stopped when the stack is closed.

    patience   seconds that it gets to end in order
    """
    log = logs / f"{name}.log"
    output = stack.enter_context(os.fdopen(open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab"))
    # A session of its own: Ctrl-C reaches this program, which then stops all in order.
    process = subprocess.Popen(  # noqa: S603  # an interpreter and modules that are ours or the workspace's
        command,
        # Not the project's folder: Dagster loads a `.env` of its working folder over the environment.
        cwd=logs,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        # What Dagster writes by itself, and the runs that the code server starts.
        umask=0o077,
    )
    service = Service(name, process, log, note(notes, process.pid), patience)
    stack.callback(service.stop)
    return service


@dataclass(frozen=True, slots=True)
class CodeServer:
    """A code location's server: a program that passes on what it is asked to the one that has the code loaded."""

    service: Service
    address: Path

    def is_loaded(self) -> bool:
        """Whether it answers, which it does once its code is loaded, or has failed to."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.address)) == 0

    def is_lost(self) -> bool:
        """Whether the one that has the code is gone, as when memory is used up: nobody else starts it again."""
        return not code_servers(self.service.process.pid)

    def reload(self) -> None:
        """Load the code anew. Where the server itself is gone, whoever watches it says so."""
        reload_code(self.address, _LOAD_SECONDS)
