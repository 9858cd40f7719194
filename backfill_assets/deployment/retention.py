"""Delete old entries of Dagster's event log, which Dagster itself never does.

The newest materialization of every partition and the newest evaluation of every check are kept: the Dagster UI shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from backfill_assets.adapters.postgres import Row, connected
from backfill_assets.adapters.sql import statements

SQL = statements(__package__, "retention.sql")

KEPT_DAYS = 90
"""Default age in days from which the nightly schedule and `backfill db purge` delete."""

_AT_A_TIME = 10_000
"""Rows deleted in one transaction, so that none holds its locks for long."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How many entries were deleted: of runs' logs, superseded materializations, and superseded check evaluations."""

    events: int
    materializations: int
    checks: int


def purge_events(url: str, before: datetime) -> Purged:
    """Delete what is older than `before` (aware) and not shown anywhere. Raises DatabaseUnavailable."""
    with connected(url) as connection:
        row: Any = connection.execute("select to_regclass('dagster.event_logs') is not null").fetchone()
        if not row[0]:
            return Purged(0, 0, 0)
        # Dagster stores instants without a zone, in UTC.
        until = before.astimezone(UTC).replace(tzinfo=None)
        parts = ("old_events", "outdated_materializations", "outdated_checks")
        return Purged(*(_delete_all(connection, name, until) for name in parts))


def _delete_all(connection: psycopg.Connection[Row], statement: str, before: datetime) -> int:
    total = 0
    while True:
        row: Any = connection.execute(SQL[statement], {"before": before, "most": _AT_A_TIME}).fetchone()
        if not row[0]:
            return total
        total += row[0]
