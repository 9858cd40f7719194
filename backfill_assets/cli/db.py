"""`backfill db …`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from backfill_assets.adapters import database
from backfill_assets.adapters.embedded_postgres import find_psql
from backfill_assets.adapters.postgres import without_password
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import schema
from backfill_assets.deployment.retention import purge_events
from backfill_assets.domain.errors import DatabaseUnavailable, UsageMistake

MAX_AGE = 3650


def url_command() -> None:
    """Print the URL, password included: it is what a driver needs."""
    sys.stdout.write(f"{database.locate(Settings.read())}\n")


def psql_command(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by psql on the database. The password is in its environment, where other users cannot read it."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(database.locate(Settings.read())).items()}
    password = parameters.pop("password", None)
    environment = os.environ | ({"PGPASSWORD": password} if password else {})
    os.execve(find_psql(), ["psql", make_conninfo("", **parameters), *arguments], environment)  # noqa: S606  # no shell


def start_command() -> None:
    """Start the embedded server."""
    url = database.ready(_embedded_settings())
    sys.stdout.write(f"The embedded PostgreSQL runs at {without_password(url)}.\n")


def stop_command(*, force: bool) -> None:
    """Stop the embedded server, unless `backfill up` uses it."""
    server = database.embedded(_embedded_settings())
    if not force and server.running():
        with suppress(DatabaseUnavailable):  # a server that accepts no connection may be stopped
            if database.platform_runs(server.url(start=False)):
                raise UsageMistake("`backfill up` uses the embedded PostgreSQL: stop that first, or add --force.")
    stopped = server.stop()
    sys.stdout.write(
        "The embedded PostgreSQL is stopped.\n" if stopped else "The embedded PostgreSQL is not running.\n"
    )


def upgrade_command() -> None:
    """Upgrade the market tables."""
    revision = schema.upgrade(database.locate(Settings.read()))
    sys.stdout.write(f"The market tables are at revision {revision}.\n")


def purge_command(older_than: str) -> None:
    """Remove old entries from Dagster's event log."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})d", older_than)
    if match is None or (days := int(match[1])) > MAX_AGE:
        raise UsageMistake(f"--older-than {older_than!r} is not a number of days like 90d, from 1d to {MAX_AGE}d.")
    gone = purge_events(database.locate(Settings.read()), datetime.now(UTC) - timedelta(days=days))
    sys.stdout.write(
        f"Removed entries older than {days} days: {gone.events:,} log entries of ended runs, {gone.materializations:,} "
        f"materializations and {gone.checks:,} check results that newer ones replace. What the UI shows is kept.\n"
    )


def _embedded_settings() -> Settings:
    settings = Settings.read()
    if settings.database_url:
        raise UsageMistake("DATABASE_URL names a server of your own; unset it to control the embedded one.")
    return settings
