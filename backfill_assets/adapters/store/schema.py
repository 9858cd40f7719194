"""The market tables, brought up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, OperationalError

from backfill_assets.adapters.alchemy import sqlalchemy_url
from backfill_assets.adapters.postgres import connect, unavailable
from backfill_assets.domain.errors import SchemaBehind, StoreError

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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _head(config: Config) -> str:
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise SchemaBehind("The package holds no migrations: install it again.")
    return head
