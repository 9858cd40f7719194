"""Select the PostgreSQL server and prepare its tables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

import psycopg

from backfill_assets.adapters.embedded_postgres import EmbeddedPostgres
from backfill_assets.adapters.postgres import connect, connected, without_password
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store import schema
from backfill_assets.domain.errors import DatabaseUnavailable, SettingMistake

_LIBPQ = re.compile(r"PG[A-Z]+")
"""Names of libpq's variables: postgresql.org/docs/18/libpq-envars.html. PG_BINDIR is not one of them."""


# Any constant that no other program uses: the bytes of "bkup".
_PLATFORM_LOCK = 0x626B7570

_STAY_CONNECTED = """
select set_config('idle_session_timeout', '0', false), set_config('tcp_keepalives_idle', '60', false),
  set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '6', false)"""
"""Settings of a connection that is kept for its lock."""

_LOCK_ONCE = """
select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objid = %(key)s::oid)
  or pg_try_advisory_lock(%(key)s)"""


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


_IS_LOCKED = "select exists (select from pg_locks where locktype = 'advisory' and objid = %(key)s::oid and granted)"


def platform_runs(url: str) -> bool:
    """Whether a `backfill up` runs on the database, on whatever machine. Raises DatabaseUnavailable."""
    with connected(url) as connection:
        return connection.execute(_IS_LOCKED, {"key": _PLATFORM_LOCK}).fetchone() == (True,)


@contextmanager
def only_platform(url: str, say: Callable[[str], None] = lambda _: None) -> Iterator[Callable[[], None]]:
    """Be the only `backfill up` of the database until the context ends.

    Two daemons on one database would launch each other's runs. Call what is yielded now and then: it locks again after the
    connection was lost, as in a restart or failover of the server. Both raise SettingMistake if there is another one, on
    whatever machine. A machine that vanished counts for about two minutes. `say` receives a sentence when the database is
    lost, and when it is back.
    """
    connection, lost = connect(url), False

    def keep() -> None:
        nonlocal connection, lost
        try:
            if connection.closed:
                connection = connect(url)
            connection.execute(_STAY_CONNECTED)
            row = connection.execute(_LOCK_ONCE, {"key": _PLATFORM_LOCK}).fetchone()
        except (psycopg.Error, DatabaseUnavailable):
            connection.close()  # the server is away: locked again when it is back
            if not lost:
                say(f"The database {without_password(url)} is lost; waiting for it.")
            lost = True
            return
        if lost:
            say("The database is back.")
        lost = False
        if row != (True,):
            raise SettingMistake(
                f"Another `backfill up` is running on the database {without_password(url)}: stop it, or set DATABASE_URL to "
                "another database."
            )

    try:
        keep()
        yield keep
    finally:
        connection.close()


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
