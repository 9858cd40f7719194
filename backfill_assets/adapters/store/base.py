"""What every store over the market tables shares: a pool of connections, and transactions that survive a broken one."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg

from backfill_assets.adapters.postgres import Row, connect, open_pool, with_reconnection
from backfill_assets.domain.errors import DatabaseUnavailable


class Store:
    """Tables behind a pool of connections that threads share. Use it as a context manager.

    Methods of its subclasses raise DatabaseUnavailable where the server stays away.
    """

    def __init__(self, url: str, *, connections: int = 4) -> None:
        self._url = url
        self._pool = open_pool(url, connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back to the server."""
        self._pool.close()

    def is_reachable(self) -> bool:
        """Whether the server takes a connection now; it is not waited for."""
        try:
            connect(self._url).close()
        except DatabaseUnavailable:
            return False
        return True

    def _transaction[T](self, work: Callable[[psycopg.Connection[Row]], T]) -> T:
        """Do the work in one transaction; again, whole, where the connection broke in it."""

        def transaction() -> T:
            with self._pool.connection() as connection, connection.transaction():
                return work(connection)

        return with_reconnection(self._url, transaction)

    @classmethod
    def beside(cls, other: Store) -> Self:
        """A store over the connections of another one, which stays the one to close."""
        store = cls.__new__(cls)
        store._url, store._pool = other._url, other._pool  # noqa: SLF001  # of the same class
        return store
