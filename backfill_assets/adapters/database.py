"""Select the PostgreSQL server and prepare its tables."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import schema

_LIBPQ = re.compile(r"PG[A-Z]+")
"""Names of libpq's variables: postgresql.org/docs/18/libpq-envars.html. PG_BINDIR is not one of them."""


def embedded(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of the data folder, running or not."""
    return EmbeddedPostgres(settings.data)


def locate(settings: Settings, environ: MutableMapping[str, str] = os.environ) -> str:
    """Return the URL of the database. The embedded server is started if DATABASE_URL is not set.

    In that case, libpq's variables such as PGSSLMODE and PGOPTIONS, which are for another server, are removed from the
    environment of this process and its children: every driver reads them, and a URL cannot override all of them. Raises
    EmbeddedServerError.
    """
    if settings.database_url:
        return settings.database_url
    for name in [name for name in environ if _LIBPQ.fullmatch(name)]:
        del environ[name]
    return embedded(settings).url()


def ready(settings: Settings) -> str:
    """Return the URL of a database with current market tables. The embedded database is upgraded automatically.

    Raises EmbeddedServerError, DatabaseUnavailable, or SchemaBehind, since the user's own database is upgraded only on
    request.
    """
    url = locate(settings)
    if settings.database_url is not None:
        schema.require_current(url)
    elif schema.found(url) != schema.NEEDED:
        schema.upgrade(url)
    return url
