"""The base of every store over the market tables: a pool of connections, and transactions that survive a lost one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Self

import psycopg

from backfill_assets.adapters.postgres import Row, connect, open_pool, with_reconnection
from backfill_assets.domain.errors import DatabaseUnavailable


class Store:
    """Tables behind a pool of connections that threads share. Use it as a context manager.

    A `read_only` store needs the right to select only, and works on a standby; its transactions cannot write.
    Methods of its subclasses raise DatabaseUnavailable if the server stays away.
    """

    def __init__(self, url: str, *, connections: int = 4, read_only: bool = False) -> None:
        self.url, self.read_only = url, read_only
        self._pool = open_pool(url, connections, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def now(self) -> datetime:
        """Return the present by the database's clock, aware."""
        row: Any = self._transaction(lambda c: c.execute("select clock_timestamp()").fetchone())
        present: datetime = row[0]
        return present

    def is_reachable(self) -> bool:
        """Whether the server accepts a connection now; does not wait for it."""
        try:
            connect(self.url).close()
        except DatabaseUnavailable:
            return False
        return True

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection within one transaction, which is not retried: see `reconnecting`."""
        with self._pool.connection() as connection, connection.transaction():
            yield connection

    def _transaction[T](self, work: Callable[[psycopg.Connection[Row]], T]) -> T:
        """Run the work in one transaction, and again if the connection is lost in it."""

        def transaction() -> T:
            with self._connection() as connection:
                return work(connection)

        return with_reconnection(self.url, transaction)

    @classmethod
    def beside(cls, other: Store) -> Self:
        """Return a store that shares the connections of another one, which remains the one to close."""
        store = cls.__new__(cls)
        store.url, store.read_only, store._pool = other.url, other.read_only, other._pool  # noqa: SLF001  # of the same class
        return store


def reconnecting[S: Store, **P, T](work: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorate a function of a store and more: it runs again if the store's connection is lost in it.

    It must be safe to run twice, because a commit may have succeeded without its confirmation. Raises DatabaseUnavailable if
    the server stays away.
    """

    @wraps(work)
    def repeated(store: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return with_reconnection(store.url, lambda: work(store, *args, **kwargs))

    return repeated
