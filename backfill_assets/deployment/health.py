"""Whether the platform works: its database accepts connections, and Dagster's daemon is alive.

Without Dagster, which takes seconds to import: health checks of containers run every half minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from backfill_assets.adapters import database
from backfill_assets.adapters.postgres import connected
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store import schema
from backfill_assets.domain.errors import BackfillError

SQL = statements(__package__, "health.sql")

DAEMON_SECONDS = 40
"""Age from which the newest heartbeat means that the daemon is down: each of its threads sends one every 30 seconds."""


@dataclass(frozen=True, slots=True)
class PlatformHealth:
    """The health of the platform in one sentence. `daemon_seconds` is the age of the newest heartbeat, None without one."""

    sentence: str
    database: bool
    daemon_seconds: float | None = None

    @property
    def daemon(self) -> bool:
        """Whether the daemon is alive."""
        return self.daemon_seconds is not None and self.daemon_seconds < DAEMON_SECONDS

    @property
    def healthy(self) -> bool:
        """Whether everything works."""
        return self.database and self.daemon


def platform_health(settings: Settings) -> PlatformHealth:
    """Look at database and daemon. The embedded server is not started."""
    try:
        url = existing_database(settings)
        schema.require_current(url)
        age = _daemon_age(url)
    except BackfillError as error:
        return PlatformHealth(str(error), database=False)
    if age is None:
        return PlatformHealth("The Dagster daemon has never run: `backfill up` starts it.", database=True)
    if age >= DAEMON_SECONDS:
        sentence = f"The Dagster daemon is down, last seen {age:.0f} s ago: `backfill up` starts it."
        return PlatformHealth(sentence, database=True, daemon_seconds=age)
    return PlatformHealth(
        f"The database accepts connections, the daemon was seen {max(age, 0):.0f} s ago.",
        database=True,
        daemon_seconds=age,
    )


def existing_database(settings: Settings) -> str:
    """Return the URL of the database, without starting the embedded server. Raises DatabaseUnavailable."""
    return settings.database_url or database.embedded(settings).url(start=False)


def _daemon_age(url: str) -> float | None:
    with connected(url) as connection:
        try:
            row: Any = connection.execute(SQL["daemon_age"]).fetchone()
        except psycopg.errors.UndefinedTable:  # Dagster has not created its tables yet
            return None
    return None if row[0] is None else float(row[0])
