"""A read-only connection, and columns of rows through it: by ADBC where it is installed, else by COPY."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from backfill_assets.adapters.postgres import Row, connect, unavailable
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.copy_format import HEADER, POSTGRES_EPOCH_MS
from backfill_assets.domain.errors import StoreError, UsageMistake

SQL = statements("backfill_assets.reading", "reading.sql")

type Columns = dict[str, NDArray[Any]]
"""Rows as columns of equal length: `timestamp` int64 in microseconds since the epoch UTC, `trades` int64, others float64."""

_CANCELED = psycopg.errors.QueryCanceled.sqlstate
_COPY_ROWS = 100_000
_LONGEST = 2_147_483
"""Seconds: PostgreSQL's own limit, rounded down."""


def has_arrow() -> bool:
    """Whether the extra `reading` is installed."""
    return all(map(find_spec, ("pyarrow", "adbc_driver_manager", "adbc_driver_postgresql")))


@dataclass(frozen=True, slots=True)
class Reader:
    """A connection that only reads; the state of the tables at its first query. See `opened`."""

    connection: psycopg.Connection[Row]
    _adbc: Any

    def rows(self, statement: str, **values: object) -> list[Any]:
        """Return the rows of a statement of reading.sql."""
        return self.connection.execute(SQL[statement], values).fetchall()

    def frame(self, statement: str, **values: object) -> Any:
        """Return the rows of a statement as a pandas frame, without the extra."""
        import pandas as pd

        cursor = self.connection.execute(SQL[statement], values)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])

    def table(self, statement: str, **values: object) -> Any:
        """Return the rows of a statement as an Arrow table. It needs the extra."""
        with closing(self._adbc.cursor()) as cursor:
            cursor.execute(self._text(sql.SQL(SQL[statement]), values))
            return cursor.fetch_arrow_table()

    def blocks(self, statement: str, features: Sequence[str], rows: int, **values: object) -> Iterator[Columns]:
        """Yield the rows of a statement, at most `rows` at a time. NULL is NaN, and -1 in `trades`."""
        listed = sql.SQL(", ").join(
            sql.SQL("coalesce({0}, 'NaN') as {1}").format(sql.Identifier("f", name), sql.Identifier(name))
            for name in features
        )
        query = sql.SQL(SQL[statement]).format(features=listed)
        blocks = self._arrow(query, rows, values) if self._adbc else self._copied(query, values)
        for block in blocks:
            size = len(block["timestamp"])
            for first in range(0, size, rows):  # nothing of an empty block
                yield {name: column[first : first + rows] for name, column in block.items()} if size > rows else block

    def _text(self, query: sql.SQL | sql.Composed, values: Mapping[str, object]) -> str:
        # ADBC and COPY bind no parameters: psycopg writes them as literals.
        return psycopg.ClientCursor(self.connection).mogrify(query, values)

    def _arrow(self, query: sql.Composed, rows: int, values: Mapping[str, object]) -> Iterator[Columns]:
        with closing(self._adbc.cursor()) as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(min(rows, 200_000) * 80)})
            cursor.execute(self._text(query, values))
            for batch in cursor.fetch_record_batch():
                yield {
                    name: (column.view("int64") if name == "timestamp" else column).to_numpy()
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }

    def _copied(self, query: sql.Composed, values: Mapping[str, object]) -> Iterator[Columns]:
        described = self.connection.execute(query + sql.SQL(" limit 0"), values).description or ()
        names = [column.name for column in described]
        row = np.dtype(
            [("fields", ">i2")]
            + [
                (name, [("length", ">i4"), ("value", ">i8" if name in {"timestamp", "trades"} else ">f8")])
                for name in names
            ]
        )
        copy_query = sql.SQL("copy ({}) to stdout (format binary)").format(sql.SQL(self._text(query, values)))
        with self.connection.cursor() as cursor, cursor.copy(copy_query) as copy:
            messages = iter(copy)
            pending = bytearray(next(messages))[len(HEADER) :]
            for data in messages:
                pending += data
                if len(pending) > _COPY_ROWS * row.itemsize:
                    yield _decoded(pending, row)
            yield _decoded(pending, row)


def _decoded(pending: bytearray, row: np.dtype[np.void]) -> Columns:
    """Take the complete rows out of what was received."""
    size = len(pending) // row.itemsize * row.itemsize
    rows = np.frombuffer(pending[:size], row)
    del pending[:size]
    columns: Columns = {
        name: rows[name]["value"].astype(rows[name]["value"].dtype.newbyteorder("=")) for name in (row.names or ())[1:]
    }
    columns["timestamp"] += POSTGRES_EPOCH_MS * 1000
    return columns


@contextmanager
def opened(url: str | None, timeout: float) -> Iterator[Reader]:
    """Connect for reading, by default to the database of the command line. No statement runs longer than `timeout` seconds.

    Raises UsageMistake for an invalid URL, DatabaseUnavailable, SchemaBehind, and StoreError if a statement fails.
    """
    from backfill_assets.adapters import database  # the settings take a quarter of a second
    from backfill_assets.adapters.settings import Settings, postgres_url
    from backfill_assets.adapters.store import schema

    if not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST:
        raise UsageMistake(f"timeout must be a number of seconds above 0 and at most {_LONGEST}, not {timeout!r}.")
    if url is None:
        url = database.ready(Settings.read())
    else:
        if not isinstance(url, str):
            raise UsageMistake(f"url must be text like postgresql://user:password@host:5432/database, not {url!r}.")
        try:
            url = postgres_url(url)
        except ValueError as error:  # also text that cannot be encoded
            raise UsageMistake(f"url {error}.") from None
        schema.require_current(url)
    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    settings = {"timeout": str(max(1, round(timeout * 1000)))}
    with connect(url) as connection:
        adbc = None
        try:
            connection.execute(SQL["settings"], settings)
            connection.autocommit = False
            if has_arrow():
                from adbc_driver_manager import Error
                from adbc_driver_postgresql import dbapi

                errors = (psycopg.Error, Error)
                adbc = dbapi.connect(url, autocommit=True)
                with closing(adbc.cursor()) as cursor:
                    cursor.execute(psycopg.ClientCursor(connection).mogrify(SQL["settings"], settings))
                    cursor.fetchall()
                adbc.adbc_connection.set_autocommit(False)
            yield Reader(connection, adbc)
        except errors as error:
            if getattr(error, "sqlstate", None) == _CANCELED:
                raise StoreError(
                    f"PostgreSQL took longer than {timeout:g} s for a statement: read less at a time, or pass a "
                    "longer timeout."
                ) from None
            raise unavailable(url, error) from None
        finally:
            if adbc is not None:
                adbc.close()
