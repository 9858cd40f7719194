"""`backfill up`: Dagit and the daemon, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.address import Address
from backfill_assets.cli.orphans import end_orphans
from backfill_assets.cli.profile import demo_profile
from backfill_assets.cli.services import Services, notes
from backfill_assets.cli.universe_changes import UniverseChanges
from backfill_assets.deployment.runs import end_dead_runs
from backfill_assets.orchestration.launch import open_instance


def up_command(address: Address, *, demo: bool) -> int:
    """Carry out `backfill up`; the exit code."""
    # All are set: a shell starts a background job with Ctrl-C ignored, and a closed terminal must not leave services behind.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    with ExitStack() as stack:
        if demo:
            stack.enter_context(demo_profile())
        settings = Settings.read(os.environ)
        settings.require_project()
        changes = UniverseChanges(settings, _say)
        for warning in settings.universe(datetime.now(UTC).date()).warnings():
            _say(warning)
        if end_orphans(notes(settings)):
            _say("Ended the services that a killed `backfill up` had left behind.")
        database.ready(settings)
        # Dagster's tables are made here, by one process, before two start to use them.
        with open_instance(settings) as instance:
            end_dead_runs(instance)
        if settings.api_key is None:
            _say("POLYGON_API_KEY is not set: everything can be looked at, and nothing fetched.")
        services = stack.enter_context(Services(settings, address))
        _say("Starting Dagit and the daemon …")
        try:
            services.start()
            _say(f"Dagit: {services.url}   (logs: {services.logs})\nCtrl-C stops both.")
            services.watch(changes)
        except KeyboardInterrupt:
            _say("Stopping …")
    _say("Stopped." + _afterwards(settings, demo=demo))
    return 0


def _afterwards(settings: Settings, *, demo: bool) -> str:
    if settings.database_url:
        return ""
    return f" The embedded PostgreSQL goes on; {'`make clean`' if demo else '`backfill db stop`'} ends it."


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
