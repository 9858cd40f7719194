"""Connections to PostgreSQL, and messages if there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from backfill_assets.domain.errors import DatabaseUnavailable, StoreError, first_error

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

type Row = tuple[object, ...]

CONNECT_SECONDS = 10
"""Timeout of a connection."""

RECONNECT_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts of a transaction: a restart of the server takes less than their sum."""

_NOT_ALLOWED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
_NOT_FOUND = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)

# By the server's code, as Dagster uses another driver.
_ADVICE = dict.fromkeys(
    [kind.sqlstate for kind in _NOT_ALLOWED],
    "grant the right to the role of DATABASE_URL, see docs/howto/own-postgresql.md",
) | dict.fromkeys(
    [kind.sqlstate for kind in _NOT_FOUND],
    "tables of the platform were removed or changed: restore a backup, see docs/howto/operations.md",
)
_ADVICE[psycopg.errors.LockNotAvailable.sqlstate] = (
    "run the command again when the program that locks the tables, such as VACUUM FULL, has finished"
)

SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""libpq's settings (seconds, the last one ms) for noticing that the server's machine has disappeared."""

_CONNECT: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "utf8",
    **SILENCE,
}

POOL_SECONDS = 10
"""Timeout for a connection from a pool, which has one for each worker."""


POOLER = (
    "DATABASE_URL leads to a connection pooler that does not pass on the settings of a connection; connect to PostgreSQL "
    "directly, see docs/howto/own-postgresql.md"
)

_SESSION = """
select set_config('datestyle', 'ISO', false), set_config('intervalstyle', 'postgres', false),
  set_config('extra_float_digits', '1', false), set_config('standard_conforming_strings', 'on', false)"""
"""What reading dates, intervals and exact floats and writing literals rely on, whatever the database's own settings are."""


def without_password(url: str) -> str:
    """Return host, port and database of a URL, for messages; of several hosts, all."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    hosts = query.get("host", parts.hostname or "localhost").split(",")
    ports = query.get("port", str(parts.port or "")).split(",")
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    return ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True)) + parts.path


def sqlalchemy_url(url: str, driver: str = "psycopg") -> URL:
    """Convert a URL for SQLAlchemy with a driver: psycopg (3), or psycopg2 for Dagster, which listens through it."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415  # slow to import, and rarely needed

    return make_url(url).set(drivername=f"postgresql+{driver}")


def unavailable(url: str, error: BaseException, environ: Mapping[str, str] = os.environ) -> DatabaseUnavailable:
    """Convert a driver's error to one sentence without secrets. `environ` shows whether the server is the embedded one."""
    reason = _reason(error)
    if password := urlsplit(url).password:
        reason = reason.replace(password, "***").replace(unquote(password), "***")
    return DatabaseUnavailable(
        f"PostgreSQL at {without_password(url)} cannot be used ({reason}); {_advice(error, environ)}."
    )


def dagster_storage_unavailable(error: BaseException, environ: Mapping[str, str] = os.environ) -> DatabaseUnavailable:
    """Convert an error of Dagster's storage: SQLAlchemy's, or one caused by it."""
    cause = error if error.__cause__ is None else error.__cause__
    cause = getattr(cause, "orig", None) or cause
    return DatabaseUnavailable(
        f"Dagster's records in PostgreSQL cannot be used ({_reason(cause)}); {_advice(cause, environ)}."
    )


def refused(error: BaseException, environ: Mapping[str, str] = os.environ) -> StoreError | None:
    """Convert an error of a driver or of SQLAlchemy that nothing else has handled; None for any other error."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  # slow to import, and rarely needed

    if isinstance(error, BaseExceptionGroup):
        error = first_error(error)
    if not isinstance(error, (psycopg.Error, SQLAlchemyError)):
        return None
    cause = getattr(error, "orig", None) or error
    return StoreError(f"PostgreSQL refused a statement ({_reason(cause)}); {_advice(cause, environ)}.")


def _reason(error: BaseException) -> str:
    # The first part of a refusal by the server, without the statement and hints.
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    reason = " ".join((primary or str(error)).split()) or type(error).__name__
    reason = reason.rsplit("FATAL:", 1)[-1].strip()
    if any(words in reason for words in ("onnection refused", "timeout expired", "resolve")):
        return "the server does not answer"
    return reason


def _advice(error: BaseException, environ: Mapping[str, str]) -> str:
    if "No space left on device" in str(error):
        return "free space on the server's disk, then run the command again"
    if "unsupported startup parameter" in str(error):
        return POOLER
    if advice := _ADVICE.get(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)):
        return advice
    if any(words in str(error) for words in ("too many clients", "remaining connection slots", "too many connections")):
        return "raise the server's max_connections or the role's limit, see docs/howto/own-postgresql.md"
    if environ.get("DATABASE_URL"):
        return "check DATABASE_URL"
    return "`backfill db start` starts the embedded server, whose log is postgres/server.log in the data folder"


def connect(url: str) -> psycopg.Connection[Row]:
    """Connect with autocommit. Raises DatabaseUnavailable, also for a URL with unknown parameters."""
    try:
        connection = psycopg.connect(url, **_CONNECT)
        connection.execute(_SESSION)
    except psycopg.Error as error:
        raise unavailable(url, error) from None
    return connection


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Row]]:
    """Connect for a few statements. Raises DatabaseUnavailable, also if one of them fails."""
    with connect(url) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise unavailable(url, error) from None


def open_pool(url: str, size: int, *, read_only: bool = False) -> ConnectionPool[psycopg.Connection[Row]]:
    """Open a pool of up to `size` connections, each checked before use, so that it survives a restart of the server.

    `read_only`: their transactions cannot write. Raises DatabaseUnavailable if the server does not accept a connection.
    """
    connect(url).close()

    def configure(connection: psycopg.Connection[Row]) -> None:
        connection.execute(_SESSION)
        connection.read_only = read_only or None

    return ConnectionPool(
        url,
        min_size=0,
        max_size=size,
        open=True,
        timeout=POOL_SECONDS,
        check=ConnectionPool.check_connection,
        configure=configure,
        kwargs=_CONNECT,
    )


def with_reconnection[T](url: str, transaction: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run a transaction, and retry it if the connection breaks. It must be safe to run twice: the reply to a commit may be
    lost.

    Raises DatabaseUnavailable if the server is down longer than the sum of RECONNECT_PAUSES, every attempt breaks, or the
    role may not do it.
    """
    try:
        for _ in RECONNECT_PAUSES:
            try:
                return transaction()
            except (psycopg.OperationalError, PoolTimeout):
                _await_server(url, sleep)
        return transaction()
    except (psycopg.OperationalError, PoolTimeout, *_NOT_ALLOWED) as error:
        raise unavailable(url, error) from None


def _await_server(url: str, sleep: Callable[[float], None]) -> None:
    """Return when the server accepts connections; a pool would wait for its timeout. Raises DatabaseUnavailable."""
    *pauses, last = RECONNECT_PAUSES
    for pause in pauses:
        sleep(pause)
        with suppress(DatabaseUnavailable):
            connect(url).close()
            return
    sleep(last)
    connect(url).close()
