"""`backfill up`: the Dagster UI and daemon, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.services import Address, LogStyle, end_orphans


def up_command(address: Address, status: Address, logs: LogStyle) -> int:
    """Run `backfill up` until it is interrupted, and return its exit code."""
    # Also where they are ignored: a shell starts a background job with SIGINT ignored, and closing the terminal must stop
    # the services.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    with ExitStack() as stack:
        settings = Settings.read()
        settings.require_project()
        for warning in settings.universe(datetime.now(UTC).date()).warnings():
            _say(warning)
        if end_orphans(settings.data):
            _say("Stopped the services that a killed `backfill up` had left running.")
        url = database.ready(settings)
        still_only = stack.enter_context(database.only_platform(url, _say))
        address.require_free()
        status.require_free()
        from backfill_assets.adapters.store.runs import RunStore  # noqa: PLC0415  # these take seconds to load
        from backfill_assets.deployment.private_api import close_idle_connections  # noqa: PLC0415  # the same
        from backfill_assets.deployment.runs import end_dead_runs  # noqa: PLC0415  # the same
        from backfill_assets.deployment.supervisor import Supervisor  # noqa: PLC0415  # the same
        from backfill_assets.orchestration.launch import open_instance  # noqa: PLC0415  # the same

        # This also creates Dagster's tables, before two services would do so at once.
        with RunStore(url, connections=1) as runs, open_instance(settings) as instance:
            end_dead_runs(instance, runs)
            close_idle_connections(instance)
        if settings.api_key is None:
            _say("POLYGON_API_KEY is not set: stored data can be viewed, but nothing can be fetched.")
        supervisor = Supervisor(settings, address, status, logs, stack, _say)
        _say("Starting the Dagster UI (Dagit) and the daemon …")
        try:
            supervisor.start()
            _say(
                f"Status page: {status.url}\nDagster UI: {address.url}   (logs: {supervisor.logs})\nPress Ctrl-C to stop."
            )
            _notify_systemd("READY=1")
            supervisor.watch(still_only)
        except KeyboardInterrupt:
            _notify_systemd("STOPPING=1")
            _say("Stopping …")
    if settings.database_url:
        _say("Stopped.")
    else:
        _say("Stopped. The embedded PostgreSQL keeps running; stop it with `backfill db stop`.")
    return 0


def _notify_systemd(state: str) -> None:
    """Report a state to systemd if it started this process as a unit of Type=notify: sd_notify(3)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification, suppress(OSError):
            notification.sendto(state.encode(), address.replace("@", "\0", 1))


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
