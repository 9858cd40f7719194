"""The revision that the market tables are at, and the one that this code needs."""

from __future__ import annotations

import psycopg

from backfill_assets.adapters.postgres import connected
from backfill_assets.domain.errors import SchemaBehind, StoreError

NEEDED = "0011"
"""The newest of the migrations."""

VERSION_TABLE = "backfill_schema_version"
"""Alembic's own table, under a name that no other user of Alembic in the same database has."""


def found(url: str) -> str | None:
    """The revision that the tables are at, None where there are none. Raises DatabaseUnavailable."""
    with connected(url) as connection:
        try:
            there = connection.execute("select to_regclass(%s) is not null", [VERSION_TABLE]).fetchone()
            row = None
            if there and there[0]:
                row = connection.execute("select version_num from backfill_schema_version").fetchone()
        except psycopg.ProgrammingError as error:
            raise StoreError(f"The market tables cannot be read ({' '.join(str(error).split())}).") from None
    return str(row[0]) if row else None


def require_current(url: str) -> None:
    """Raise SchemaBehind unless the tables are at the code's revision; DatabaseUnavailable where nobody answers."""
    there = found(url)
    if there != NEEDED:
        state = "are not there yet" if there is None else f"are at revision {there}, the code needs {NEEDED}"
        raise SchemaBehind(f"The market tables {state}: run `backfill db upgrade`.")
