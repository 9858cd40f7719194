"""Connections to PostgreSQL, and what is said when there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from backfill_assets.domain.errors import DatabaseUnavailable

type Row = tuple[object, ...]

CONNECT_SECONDS = 10
"""How long a server may take to answer a connection."""

RECONNECT_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts at the same transaction: a server that restarts is back well within their sum."""

POOL_SECONDS = 10
"""So long a transaction waits for one of a pool's connections, of which there is one for each worker."""


def without_password(url: str) -> str:
    """Host, port and database of a URL: all that a message may say of it."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def unavailable(url: str, error: BaseException, environ: Mapping[str, str] = os.environ) -> DatabaseUnavailable:
    """One sentence from a driver's many lines, without the URL's secrets. `environ` says whose server it is."""
    return DatabaseUnavailable(
        f"PostgreSQL at {without_password(url)} cannot be used ({_reason(error)}); {_cure(error, environ)}."
    )


def dagster_storage_unavailable(error: BaseException, environ: Mapping[str, str] = os.environ) -> DatabaseUnavailable:
    """The same of Dagster's records, which are reached by Dagster's driver; SQLAlchemy's error or one caused by it."""
    cause = error if error.__cause__ is None else error.__cause__
    cause = getattr(cause, "orig", None) or cause
    return DatabaseUnavailable(
        f"Dagster's records in PostgreSQL cannot be used ({_reason(cause)}); {_cure(cause, environ)}."
    )


def _reason(error: BaseException) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason.rsplit("FATAL:", 1)[-1].strip()
    if any(words in reason for words in ("onnection refused", "timeout expired", "resolve")):
        return "nobody answers there"
    return reason


def _cure(error: BaseException, environ: Mapping[str, str]) -> str:
    if "No space left on device" in str(error):
        return "make room on the server's disk, and run the same again"
    if environ.get("DATABASE_URL"):
        return "check DATABASE_URL"
    return "`backfill db start` starts the embedded server, whose log is postgres/server.log in the data folder"


def connect(url: str) -> psycopg.Connection[Row]:
    """A connection with autocommit on. Raises DatabaseUnavailable, also for a URL with parameters that nobody knows."""
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise unavailable(url, error) from None


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Row]]:
    """The same for a few statements, closed afterwards. Raises DatabaseUnavailable also where one of them fails."""
    with connect(url) as connection:
        try:
            yield connection
        except psycopg.Error as error:
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
        timeout=POOL_SECONDS,
        check=ConnectionPool.check_connection,
        kwargs={"autocommit": True, "connect_timeout": CONNECT_SECONDS},
    )


def with_reconnection[T](url: str, transaction: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run a transaction, again where the connection broke in it. It must be safe to run twice: a commit's answer may be lost.

    Raises DatabaseUnavailable where the server stays away for the sum of RECONNECT_PAUSES, or breaks off every attempt.
    """
    for _ in RECONNECT_PAUSES:
        try:
            return transaction()
        except (psycopg.OperationalError, PoolTimeout):
            _await_server(url, sleep)
    try:
        return transaction()
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise unavailable(url, error) from None


def _await_server(url: str, sleep: Callable[[float], None]) -> None:
    """Return once it answers: a pool alone would wait its whole time for each attempt. Raises DatabaseUnavailable."""
    *pauses, last = RECONNECT_PAUSES
    for pause in pauses:
        sleep(pause)
        with suppress(DatabaseUnavailable):
            connect(url).close()
            return
    sleep(last)
    connect(url).close()
