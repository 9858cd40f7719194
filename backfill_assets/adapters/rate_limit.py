"""One rate limit for every process and machine that reaches one PostgreSQL.

The row is a generic cell rate algorithm: it holds the time of the next permit, and a permit moves it on by one interval.
All times are the database's, clients only wait for differences, so that no machine's clock matters.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg.conninfo import make_conninfo

from backfill_assets.adapters.postgres import CONNECT_SECONDS, RECONNECT_PAUSES, unavailable
from backfill_assets.adapters.sql import statements
from backfill_assets.domain.errors import SchemaBehind, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

_SQL = statements(__package__, "rate_limit.sql")
_AT_ONCE = 0.02
"""Seconds. A wait so short needs no second look at the row: less than it takes to ask."""

_LATENESS = (0.1, 0.6)
"""Seconds. A permit that is told or used later than half an interval, held between these, is dropped. Twice the greater is
what a margin of 2 % leaves free in a minute, the vendor's window; the smaller lets a busy machine get any at high rates."""

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
"""What a server that restarts, or has handed over to another, answers; a new connection may find it well."""

_SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""libpq's settings (seconds, the last one ms) for noticing that the server's machine has gone without a word."""


class RateLimiter:
    """Permits at `per_second`, evenly spaced, with `margin` of the rate left free for what the network adds.

    All limiters with the same `name` on the same database share the rate, in turns. Each holds at most one permit ahead,
    so that a process that is killed wastes one. Without the database nobody gets a permit. An async context manager, for
    one event loop; another loop needs a limiter of its own, and may have it at the same time.

    `clock` gives seconds that only go forward, `sleep` takes seconds. `acquire` and `push_back` raise DatabaseUnavailable
    when the server stays away for the sum of RECONNECT_PAUSES, SchemaBehind when the table is not there.
    """

    def __init__(  # keyword-only but for the address, and each has a default but the rate
        self,
        database_url: str,
        *,
        per_second: float,
        name: str = "polygon",
        margin: float = 0.02,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if not (per_second > 0 and math.isfinite(per_second) and 0 <= margin < 1):
            raise ValueError(f"per_second {per_second} must be above 0, margin {margin} at least 0 and below 1")
        self.interval = (1 + margin) / per_second
        self._late = min(max(self.interval / 2, _LATENESS[0]), _LATENESS[1])
        self._url, self._name, self._clock, self._sleep = database_url, name, clock, sleep
        self._turn = asyncio.Lock()  # one permit ahead a process
        self._wire = asyncio.Lock()  # one statement at a time, and one reconnection
        self._connection: psycopg.AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the limiter may be used again and then opens another."""
        async with self._wire:
            await self._disconnect()

    async def acquire(self) -> float:
        """Wait for a permit. Returns its time by the database's clock, seconds since the epoch."""
        async with self._turn:
            while True:
                asked = self._clock()
                slot, wait, generation = await self._row("reserve", interval=self.interval)
                told = self._clock()
                if wait > 0:
                    await self._sleep(wait)
                if wait > _AT_ONCE and await self._row("generation") != (generation,):
                    continue  # pushed back meanwhile: every permit given out before is void
                if max(told - asked, self._clock() - told - max(wait, 0.0)) <= self._late:
                    return slot

    async def push_back(self, seconds: float) -> None:
        """Let nobody, in any process, use a permit for the next `seconds`, not even one already given out and waited for."""
        await self._row("push_back", seconds=max(0.0, seconds))

    async def _row(self, statement: str, **values: float) -> tuple[float, ...]:
        async with self._wire:
            for pause in (*RECONNECT_PAUSES, None):
                try:
                    return await self._execute(statement, values)
                except _AWAY as error:
                    await self._disconnect()
                    if pause is None:
                        raise unavailable(self._url, error) from None
                await self._sleep(pause)
        raise AssertionError  # the last round returns or raises

    async def _execute(self, statement: str, values: dict[str, float]) -> tuple[float, ...]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await psycopg.AsyncConnection.connect(
                make_conninfo(self._url, **_SILENCE, connect_timeout=CONNECT_SECONDS),
                autocommit=True,
                prepare_threshold=None,
            )
        try:
            cursor = await connection.execute(_SQL[statement], {"name": self._name, **values})
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            raise SchemaBehind("The table of the rate limit is not there yet: run `backfill db upgrade`.") from None
        except _AWAY:
            raise
        except psycopg.Error as error:
            raise StoreError(f"The table of the rate limit cannot be used: {error}") from error
        return await cursor.fetchone() or ()

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        self._connection = None
