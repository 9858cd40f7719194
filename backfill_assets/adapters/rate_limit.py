"""A rate limit that all processes and machines on one PostgreSQL share.

It is a generic cell rate algorithm: a row has the time of the next permit, and each permit advances it by one interval. All
times are the database's; clients only wait for differences, so that their clocks do not matter.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg.conninfo import make_conninfo

from backfill_assets.adapters.postgres import CONNECT_SECONDS, RECONNECT_PAUSES, SILENCE, unavailable
from backfill_assets.adapters.sql import statements
from backfill_assets.domain.errors import RateLimited, SchemaBehind, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

_SQL = statements(__package__, "rate_limit.sql")
_AT_ONCE = 0.02
"""Seconds. After a shorter wait the row is not read again, which takes longer."""

_LATENESS = (0.1, 0.6)
"""Seconds, bounds. A permit that arrives or is used later than half an interval, within these bounds, is dropped. Twice
the upper bound is what a margin of 2 % leaves free in a minute, the vendor's window; the lower one lets a busy machine get
permits at high rates."""

_QUEUE, _BAN = 1800.0, 4 * 86_400.0
"""Seconds. A permit further ahead is from before a step back of the server's clock: for limiters that wait for every permit,
and for those that do not."""

_LONG = 4.0
"""Seconds. A longer wait is announced, unless it is the interval between permits."""

_REPEAT = 60.0
"""Seconds after a wait that was announced, in which no other is."""

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors of a server that restarts or has failed over; a new connection may succeed."""


class RateLimiter:
    """Evenly spaced permits at `per_second`, minus a `margin` of the rate for delays in the network.

    All limiters with the same `name` on the same database share the rate in turn. Each reserves at most one permit, so that
    a killed process wastes one. Without the database there are no permits. An async context manager for one event loop;
    another loop needs its own limiter, and may use it at the same time.

    `clock` returns monotonic seconds, `sleep` takes seconds, `on_wait` a sentence when other processes or the database make
    a permit wait for long; what this limiter pushed back itself is not announced. `acquire` and `push_back` raise
    DatabaseUnavailable if the server is away for longer than the sum of RECONNECT_PAUSES, SchemaBehind if the table is
    missing, and RateLimited if a permit is more than `longest_wait` seconds away: a vendor may ban an address for days.
    """

    def __init__(
        self,
        database_url: str,
        *,
        per_second: float,
        name: str = "polygon",
        margin: float = 0.02,
        longest_wait: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not (per_second > 0 and math.isfinite(per_second) and 0 <= margin < 1):
            raise ValueError(f"per_second {per_second} must be above 0, margin {margin} at least 0 and below 1")
        self.interval = (1 + margin) / per_second
        self._late = min(max(self.interval / 2, _LATENESS[0]), _LATENESS[1])
        self._url, self._name, self._clock, self._sleep = database_url, name, clock, sleep
        self._on_wait, self._silent_until, self._longest_wait = on_wait, -math.inf, longest_wait
        self._furthest = _QUEUE if longest_wait == math.inf else _BAN
        self._turn = asyncio.Lock()  # at most one reserved permit in a process
        self._wire = asyncio.Lock()  # one statement or reconnection at a time
        self._connection: psycopg.AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the limiter opens another if it is used again."""
        async with self._wire:
            await self._disconnect()

    async def acquire(self) -> float:
        """Wait for a permit. Returns its time by the database's clock, in seconds since the epoch."""
        async with self._turn:
            while True:
                sent = self._clock()
                late = asyncio.get_running_loop().call_later(
                    _LONG, self._on_wait, "Waiting for the shared request rate limit."
                )
                try:
                    slot, wait, generation = await self._row("reserve", interval=self.interval, furthest=self._furthest)
                finally:
                    late.cancel()
                received = self._clock()
                if wait > self._longest_wait:
                    raise RateLimited(f"no request may be sent to {self._name} for {wait:,.0f} s")
                if wait > max(_LONG, 2 * self.interval) and received + wait > self._silent_until:
                    self._silent_until = received + wait + _REPEAT
                    self._on_wait(f"Waiting {wait:.0f} s for the request rate limit, shared with other processes.")
                if wait > 0:
                    await self._sleep(wait)
                if wait > _AT_ONCE and await self._row("generation") != (generation,):
                    continue  # pushed back meanwhile, which voids every earlier permit
                if max(received - sent, self._clock() - received - max(wait, 0.0)) <= self._late:
                    return slot

    async def push_back(self, seconds: float) -> None:
        """Delay all permits in all processes for `seconds`, including those that are already reserved."""
        self._silent_until = max(self._silent_until, self._clock() + seconds + 2 * self.interval)
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
        raise AssertionError  # unreachable: the last round returns or raises

    async def _execute(self, statement: str, values: dict[str, float]) -> tuple[float, ...]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await psycopg.AsyncConnection.connect(
                make_conninfo(self._url, **SILENCE, connect_timeout=CONNECT_SECONDS),
                autocommit=True,
                prepare_threshold=None,
            )
        try:
            cursor = await connection.execute(_SQL[statement], {"name": self._name, **values})
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            raise SchemaBehind("The table of the rate limit does not exist: run `backfill db upgrade`.") from None
        except _AWAY:
            raise
        except psycopg.Error as error:
            raise StoreError(f"The table of the rate limit cannot be used: {error}") from error
        return await cursor.fetchone() or ()

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        self._connection = None
