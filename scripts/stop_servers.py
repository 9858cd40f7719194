"""Stop every server that was started from this folder's .venv: `backfill up`, Dagster's services, embedded PostgreSQL.

`make clean` runs it before it removes .venv.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

VENV = f"{Path(__file__).parents[1].absolute()}/.venv/"
SERVICES = {
    *("backfill_assets.web.server", "backfill_assets.deployment.webserver", "dagster_webserver", "dagster-webserver"),
    *("dagster._daemon", "dagster-daemon", "code-server", "grpc"),
}


def started_here() -> list[tuple[psutil.Process, list[str]]]:
    """Return the processes whose program is in .venv, with their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(VENV) and process.pid != os.getpid():
            found.append((process, command))
    return found


def stop(processes: Iterable[psutil.Process], number: signal.Signals, seconds: float) -> None:
    """Send the signal, wait, and kill what is still there."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main() -> None:
    """Stop `backfill up`, then services that a killed one left behind, then PostgreSQL."""
    before = len(started_here())
    stop((p for p, c in started_here() if "up" in c[2:3] and c[1].endswith("/backfill")), signal.SIGINT, 60)
    services = [p for p, c in started_here() if SERVICES.intersection(c) or c[1:3] == ["-m", "dagster"]]
    with suppress(psutil.NoSuchProcess):
        services += [child for service in services for child in service.children(recursive=True)]
    stop(services, signal.SIGTERM, 20)
    stop((p for p, c in started_here() if c[0].endswith("/postgres")), signal.SIGINT, 30)  # SIGINT: a fast shutdown
    if stopped := before - len(started_here()):
        sys.stdout.write(f"Stopped {stopped} process{'es' * (stopped != 1)} started from this folder.\n")


main()
