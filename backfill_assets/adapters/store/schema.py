"""The revision of the market tables, and the migrations that update it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from backfill_assets.adapters.postgres import Row, connect, connected, sqlalchemy_url, unavailable
from backfill_assets.domain.errors import SchemaBehind, StoreError

if TYPE_CHECKING:
    from alembic.config import Config

NEEDED = "0020"
"""The newest migration."""

VERSION_TABLE = "backfill_schema_version"
"""Alembic's table, under a name that no other user of Alembic in the same database has."""

_LOG = logging.getLogger(__name__)
_NOTICED_SKEW, _MOST_SKEW = 60.0, 600.0  # seconds

# Any constant that no other program uses: the bytes of "bkfl".
_UPGRADE_LOCK = 0x626B666C


def found(url: str) -> str | None:
    """Return the revision of the tables, None if there are none.

    Raises DatabaseUnavailable, and StoreError if this machine's clock and the server's differ by more than ten minutes.
    """
    with connected(url) as connection:
        _compare_clocks(connection)
        exists = connection.execute("select to_regclass(%s) is not null", [VERSION_TABLE]).fetchone()
        row = None
        if exists and exists[0]:
            row = connection.execute("select version_num from backfill_schema_version").fetchone()
    return str(row[0]) if row else None


def _compare_clocks(connection: psycopg.Connection[Row]) -> None:
    row: Any = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    ahead = time.time() - row[0]
    if abs(ahead) > _MOST_SKEW:
        raise StoreError(
            f"This machine's clock is {_minutes(ahead)} the database's: set the clocks, since an unfinished session could "
            "be taken for a finished one."
        )
    if abs(ahead) > _NOTICED_SKEW:
        _LOG.warning("This machine's clock is %s the database's.", _minutes(ahead))


def _minutes(ahead: float) -> str:
    return f"{abs(ahead) / 60:,.0f} minutes {'ahead of' if ahead > 0 else 'behind'}"


def require_current(url: str) -> None:
    """Raise SchemaBehind unless the tables are at the revision NEEDED. Raises DatabaseUnavailable."""
    revision = found(url)
    if revision != NEEDED:
        state = "are not there yet" if revision is None else f"are at revision {revision}, the code needs {NEEDED}"
        newer = revision is not None and revision > NEEDED
        remedy = "update the program that upgraded them" if newer else "run `backfill db upgrade`"
        raise SchemaBehind(f"The market tables {state}: {remedy}.")


def upgrade(url: str) -> str:
    """Update the tables to the newest revision and return it. Concurrent calls wait for each other.

    Raises DatabaseUnavailable; StoreError if a migration fails; SchemaBehind if the tables are newer than this code.
    """
    import sqlalchemy  # noqa: PLC0415  # slow to import, like Alembic, and rarely needed
    from alembic import command  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError, OperationalError  # noqa: PLC0415

    connect(url).close()  # reports errors in the URL
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    config = _config()
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(sqlalchemy.text("select set_config('idle_in_transaction_session_timeout', '0', true)"))
            lock.execute(sqlalchemy.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except OperationalError as error:
        raise unavailable(url, error.orig or error) from None
    except DBAPIError as error:
        reason = " ".join(str(error.orig or error).split())
        raise StoreError(f"The market tables cannot be brought up to date ({reason}).") from None
    except CommandError as error:
        raise SchemaBehind(
            f"The market tables are at a revision that this code does not know ({error}): update the program."
        ) from None
    return str(found(url))


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
