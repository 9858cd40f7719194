"""Which PostgreSQL the platform uses, and making it ready."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import revision

_LIBPQ = re.compile(r"PG[A-Z]+")
"""How libpq's variables are called: postgresql.org/docs/18/libpq-envars.html. PG_BINDIR is ours."""


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of the data folder, running or not."""
    return EmbeddedPostgres(settings.data)


def locate(settings: Settings, environ: MutableMapping[str, str] = os.environ) -> str:
    """The URL of the database; the embedded server is started where DATABASE_URL names none.

    PGSSLMODE, PGOPTIONS and the like, which are meant for another server then, are taken out of this process's environment,
    and so out of its children's: every driver obeys them, and not all can be overruled in a URL. Raises EmbeddedServerError.
    """
    if settings.database_url:
        return settings.database_url
    for name in [name for name in environ if _LIBPQ.fullmatch(name)]:
        del environ[name]
    return embedded(settings).url()


def ready(settings: Settings) -> str:
    """The URL of a database whose market tables are current: the embedded one is brought up to date by itself.

    Raises EmbeddedServerError, DatabaseUnavailable, SchemaBehind (a database of the user's is never changed unasked).
    """
    url = locate(settings)
    if settings.database_url is not None:
        revision.require_current(url)
    elif revision.found(url) != revision.NEEDED:
        from backfill_assets.adapters.store import schema  # noqa: PLC0415  # Alembic takes a while to load

        schema.upgrade(url)
    return url
