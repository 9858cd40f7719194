"""The market tables' revision: brought up to date, or compared with what the code was written for.

What lives here: running Alembic's migrations. What does not: the migrations, and Dagster's tables.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, OperationalError

from backfill_assets.adapters.postgres import connect, sqlalchemy_url, unavailable
from backfill_assets.domain.errors import SchemaBehind, StoreError

VERSION_TABLE = "backfill_schema_version"
"""Alembic's own table, under a name that no other user of Alembic in the same database has."""

# Any constant serves, as long as no other program takes it: the bytes of "bkfl".
_UPGRADE_LOCK = 0x626B666C


def upgrade(url: str) -> str:
    """Bring the tables to the newest revision, once, however many processes ask at a time; returns that revision.

    Raises DatabaseUnavailable.
    """
    connect(url).close()  # what is wrong with the URL is told by what reads it
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    config = _config()
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(sqlalchemy.text("select pg_advisory_lock(:key)"), {"key": _UPGRADE_LOCK})
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
            f"The market tables are at a revision that this code does not know ({error}): use the newer program."
        ) from None
    return _head(config)


def require_current(url: str) -> None:
    """Raise SchemaBehind unless the tables are at the code's revision; DatabaseUnavailable where nobody answers."""
    wanted = _head(_config())
    with connect(url) as connection:
        try:
            there = connection.execute("select to_regclass(%s) is not null", [VERSION_TABLE]).fetchone()
            row = None
            if there and there[0]:
                row = connection.execute("select version_num from backfill_schema_version").fetchone()
        except psycopg.Error as error:
            raise StoreError(f"The market tables cannot be read ({' '.join(str(error).split())}).") from None
    found = row[0] if row else None
    if found != wanted:
        state = "are not there yet" if found is None else f"are at revision {found}, the code needs {wanted}"
        raise SchemaBehind(f"The market tables {state}: run `backfill db upgrade`.")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _head(config: Config) -> str:
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise SchemaBehind("The package holds no migrations: install it again.")
    return head
