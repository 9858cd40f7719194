"""Where many tests begin alike: what the first of them made is kept, and copied for the others."""

import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest

from backfill_assets_tests.postgres import copy_database, new_name


@dataclass(frozen=True)
class _Kept:
    database: str
    memories: Sequence[sqlite3.Connection]


class Snapshots:
    """Use it as the fixture `snapshots`."""

    def __init__(self, server: psycopg.Connection) -> None:
        self._server = server
        self._kept: dict[Hashable, _Kept] = {}

    def at(
        self, state: Hashable, url: str, make: Callable[[], object], memories: Sequence[sqlite3.Connection] = ()
    ) -> None:
        """Bring the database at `url`, and the memories, to the state that `make` leads to from those of a new test.

        Only for what does not depend on how long ago it was made. Connections to the database are ended.
        """
        name = urlsplit(url).path.removeprefix("/")
        if (kept := self._kept.get(state)) is None:
            make()
            self._kept[state] = _Kept(self._copied(name), [_another(memory) for memory in memories])
            return
        self._server.execute(f"drop database {name} with (force)")
        copy_database(self._server, kept.database, name)
        for source, memory in zip(kept.memories, memories, strict=True):
            source.backup(memory)

    def close(self) -> None:
        """Forget all of them."""
        for kept in self._kept.values():
            self._server.execute(f"drop database {kept.database} with (force)")
            for memory in kept.memories:
                memory.close()

    def _copied(self, name: str) -> str:
        copy = new_name("kept")
        copy_database(self._server, name, copy)
        return copy


@pytest.fixture(scope="session")
def snapshots(postgres_server: str) -> Iterator[Snapshots]:
    """The states of this session."""
    with psycopg.connect(postgres_server, autocommit=True) as server:
        made = Snapshots(server)
        yield made
        made.close()


def _another(memory: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    memory.backup(copy)
    return copy
