"""The PostgreSQL database that the platform uses."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import revision

_LIBPQ = re.compile(r"PG[A-Z]+")
"""Names of libpq's variables: postgresql.org/docs/18/libpq-envars.html. PG_BINDIR is this project's."""


def embedded(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of the data folder, running or not."""
    return EmbeddedPostgres(settings.data)


def locate(settings: Settings, environ: MutableMapping[str, str] = os.environ) -> str:
    """Return the URL of the database; starts the embedded server unless DATABASE_URL is set.

    For the embedded server, variables such as PGSSLMODE and PGOPTIONS are removed from the environment of this process and
    its children: they are meant for another server, and a URL cannot override them all. Raises EmbeddedServerError.
    """
    if settings.database_url:
        return settings.database_url
    for name in [name for name in environ if _LIBPQ.fullmatch(name)]:
        del environ[name]
    return embedded(settings).url()


def ready(settings: Settings) -> str:
    """Return the URL of a database with current market tables; upgrades those of the embedded server.

    Raises EmbeddedServerError, DatabaseUnavailable, or SchemaBehind for a database of the user's, which is not upgraded here.
    """
    url = locate(settings)
    if settings.database_url is not None:
        revision.require_current(url)
    elif revision.found(url) != revision.NEEDED:
        from backfill_assets.adapters.store import schema  # noqa: PLC0415  # Alembic is slow to load

        schema.upgrade(url)
    return url
