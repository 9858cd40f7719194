"""`backfill db …`.

What lives here: what these commands say. What does not: the server, the migrations.
"""

from __future__ import annotations

import os
import sys

from backfill_assets.adapters import database
from backfill_assets.adapters.postgres import without_password
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import schema
from backfill_assets.domain.errors import UsageMistake


def url_command() -> None:
    """Print the URL, password included: it is what a driver needs."""
    sys.stdout.write(f"{database.locate(Settings.read(os.environ))}\n")


def start_command() -> None:
    """Start the embedded server."""
    url = database.ready(_embedded_settings())
    sys.stdout.write(f"The embedded PostgreSQL runs at {without_password(url)}.\n")


def stop_command() -> None:
    """Stop the embedded server."""
    stopped = database.embedded(_embedded_settings()).stop()
    sys.stdout.write("The embedded PostgreSQL is stopped.\n" if stopped else "It was not running.\n")


def upgrade_command() -> None:
    """Bring the tables up to date."""
    revision = schema.upgrade(database.locate(Settings.read(os.environ)))
    sys.stdout.write(f"The market tables are at revision {revision}.\n")


def _embedded_settings() -> Settings:
    settings = Settings.read(os.environ)
    if settings.database_url:
        raise UsageMistake("DATABASE_URL names a server of your own; unset it to drive the embedded one.")
    return settings
