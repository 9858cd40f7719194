"""Answers asked for before those who need them are there."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Protocol, Self

from backfill_assets.adapters.polygon.addresses import Address, mark
from backfill_assets.adapters.polygon.traffic import Traffic
from backfill_assets.domain.errors import BackfillError, KeyRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType


class Source(Protocol):
    """What this needs of a vendor's client."""

    @property
    def traffic(self) -> Traffic:
        """Counts since the start."""

    async def body(self, address: Address) -> bytes:
        """The body of the answer at an address."""


class Ahead:
    """Asks for the bodies at some addresses, in their order, as soon as it is entered; for one event loop to take them.

    `connect` opens what is asked, within this one's loop, and should not repeat what failed: what is not answered is not
    handed over, and whoever needs it asks again. A context manager: leaving it ends what is under way.
    """

    def __init__(
        self, addresses: Iterable[Address], connect: Callable[[], AbstractAsyncContextManager[Source]]
    ) -> None:
        self._connect = connect
        self._asked: list[tuple[Address, Future[bytes | None]]] = [(address, Future()) for address in addresses]
        self._untaken = {mark(address): future for address, future in self._asked}
        self._source: Source | None = None
        self._told = Traffic()
        self._asking: asyncio.Task[None] | None = None
        self._left = False

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._work, name="asked ahead", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # it has closed the loop
            self._loop.call_soon_threadsafe(self._leave)
        self._thread.join()

    async def take(self, address: Address) -> bytes | None:
        """The body at an address, waited for where it is under way: None where it was not asked for, has been taken, or
        could not be had. Raises KeyRefused where the vendor said so.
        """
        future = self._untaken.pop(mark(address), None)
        return await asyncio.wrap_future(future) if future else None

    def news(self) -> Traffic:
        """What was sent since this was last asked."""
        if self._source is None:
            return Traffic()
        now = self._source.traffic.copy()
        self._told, news = now, now - self._told
        return news

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._ask_all())
        finally:
            for _, future in self._asked:
                if not future.done():
                    future.set_result(None)

    async def _ask_all(self) -> None:
        # Whoever needs the answers opens the same, and says what is wrong with it.
        with suppress(BackfillError, OSError):
            async with self._connect() as source:
                self._source = source
                if not self._left:
                    self._asking = asyncio.create_task(self._ask_each(source))
                    with suppress(asyncio.CancelledError):  # it was left
                        await self._asking

    async def _ask_each(self, source: Source) -> None:
        async with asyncio.TaskGroup() as tasks:
            for address, future in self._asked:
                tasks.create_task(_ask(source, address, future))

    def _leave(self) -> None:
        """End what is under way. Opening and closing are not cut short: that would leave connections behind."""
        self._left = True
        if self._asking:
            self._asking.cancel()


async def _ask(source: Source, address: Address, future: Future[bytes | None]) -> None:
    try:
        body = await source.body(address)
    except KeyRefused as refusal:
        future.set_exception(refusal)
    except BackfillError:
        future.set_result(None)
    else:
        future.set_result(body)
