"""States that many tests start from: the first test makes one, the others get a copy."""

import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest

from backfill_assets_tests.postgres import copy_database, new_name


@dataclass(frozen=True)
class _Snapshot:
    database: str
    sqlite_databases: Sequence[sqlite3.Connection]


class Snapshots:
    """Snapshots of a database and of in-memory SQLite databases, by state. Use the fixture `snapshots`."""

    def __init__(self, server: psycopg.Connection) -> None:
        self._server = server
        self._snapshots: dict[Hashable, _Snapshot] = {}

    def restore_or_make(
        self, state: Hashable, url: str, make: Callable[[], object], sqlite_databases: Sequence[sqlite3.Connection] = ()
    ) -> None:
        """Bring the databases to the state that `make` leads to in a new test; call `make` only the first time.

        Only for states that do not depend on their age. Connections to the database at `url` are closed.
        """
        name = urlsplit(url).path.removeprefix("/")
        if (snapshot := self._snapshots.get(state)) is None:
            make()
            self._snapshots[state] = _Snapshot(self._copied(name), [copy_of(sqlite) for sqlite in sqlite_databases])
            return
        self._server.execute(f"drop database {name} with (force)")
        copy_database(self._server, snapshot.database, name)
        for source, sqlite in zip(snapshot.sqlite_databases, sqlite_databases, strict=True):
            source.backup(sqlite)

    def close(self) -> None:
        """Drop all snapshots."""
        for snapshot in self._snapshots.values():
            self._server.execute(f"drop database {snapshot.database} with (force)")
            for sqlite in snapshot.sqlite_databases:
                sqlite.close()

    def _copied(self, name: str) -> str:
        copy = new_name("snapshot")
        copy_database(self._server, name, copy)
        return copy


@pytest.fixture(scope="session")
def snapshots(postgres_server: str) -> Iterator[Snapshots]:
    """The snapshots of this session."""
    with psycopg.connect(postgres_server, autocommit=True) as server:
        made = Snapshots(server)
        yield made
        made.close()


def copy_of(sqlite: sqlite3.Connection) -> sqlite3.Connection:
    """Copy a SQLite database into memory."""
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    sqlite.backup(copy)
    return copy
