"""Connections to PostgreSQL, and what is said when there is none.

What lives here: the URL in the forms that each driver takes, connecting, pools. What does not: statements, and deciding
which server to use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy.engine import URL, make_url

from backfill_assets.domain.errors import DatabaseUnavailable

type Row = tuple[object, ...]

CONNECT_SECONDS = 10
"""How long a server may take to answer a connection."""

RECONNECT_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts at the same transaction: a server that restarts is back well within their sum."""


def sqlalchemy_url(url: str, driver: str = "psycopg") -> URL:
    """The URL for SQLAlchemy with a driver: psycopg (3) for ours, psycopg2 for Dagster, which listens through it."""
    return make_url(url).set(drivername=f"postgresql+{driver}")


def without_password(url: str) -> str:
    """Host, port and database of a URL: all that a message may say of it."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def unavailable(url: str, error: BaseException) -> DatabaseUnavailable:
    """One sentence from a driver's many lines, without the URL's secrets."""
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason.rsplit("FATAL:", 1)[-1].strip()
    if "onnection refused" in reason or "timeout expired" in reason or "resolve" in reason:
        reason = "nobody answers there"
    return DatabaseUnavailable(f"PostgreSQL at {without_password(url)} cannot be used ({reason}); check DATABASE_URL.")


def connect(url: str) -> psycopg.Connection[Row]:
    """A connection with autocommit on. Raises DatabaseUnavailable, also for a URL with parameters that nobody knows."""
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise unavailable(url, error) from None


def open_pool(url: str, size: int) -> ConnectionPool[psycopg.Connection[Row]]:
    """An opened pool of up to `size` connections, each tested before it is lent: a restarted server is not noticed.

    Raises DatabaseUnavailable where not even one connection can be made.
    """
    connect(url).close()
    return ConnectionPool(
        url,
        min_size=0,
        max_size=size,
        open=True,
        timeout=60,
        check=ConnectionPool.check_connection,
        kwargs={"autocommit": True, "connect_timeout": CONNECT_SECONDS},
    )


def with_reconnection[T](url: str, transaction: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run a transaction, again where the connection broke in it. It must be safe to run twice: a commit's answer may be lost.

    Raises DatabaseUnavailable where the server stays away for the sum of RECONNECT_PAUSES.
    """
    for pause in RECONNECT_PAUSES:
        try:
            return transaction()
        except (psycopg.OperationalError, PoolTimeout):
            sleep(pause)
    try:
        return transaction()
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise unavailable(url, error) from None
