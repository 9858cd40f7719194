"""Flat files as a source: which of them can be read, and the bars of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Protocol

from backfill_assets.adapters.polygon import Traffic
from backfill_assets.adapters.polygon_files import DayFile, MarketDay, read_day
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.sources import SourceStore
from backfill_assets.domain.bars import BadBar, Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.domain.request_plan import GroupedCall
from backfill_assets.domain.sessions import Kind, day_starts
from backfill_assets.domain.sources import POLYGON, POLYGON_FILES, difference
from backfill_assets.domain.timeframes import Timeframe, sources
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh


class FileServer(Protocol):
    """The part of the client of flat files that a fetch needs."""

    traffic: Traffic

    async def listing(self, kind: Kind, timeframe: Timeframe, days: DayRange) -> dict[date, DayFile]:
        """Return the published files by session."""

    async def fetch(self, file: DayFile) -> Path:
        """Return the complete file, which the caller deletes."""


def key_missing(market: Market) -> SettingMistake:
    """Return the error of a market that has flat files alone, and no access key for them."""
    return SettingMistake(
        f"POLYGON_FILES_ACCESS_KEY_ID is not set: {market.name} has no other source than flat files. Set it, or add polygon "
        "to its `sources:` in the universe file."
    )


type ArchivedDay = Callable[[DayFile], MarketDay | None]


async def unread(server: FileServer, store: SourceStore, request: BackfillRequest) -> dict[Timeframe, list[DayFile]]:
    """Return the files of a request's days that were not read for all symbols of its market, or have been replaced."""
    found: dict[Timeframe, list[DayFile]] = {}
    if days := request.days:
        for timeframe in sources(request.timeframes):
            read = await asyncio.to_thread(store.files_read, request.market.name, timeframe, days)
            listed = await server.listing(request.market.kind, timeframe, days)
            found[timeframe] = [f for s, f in listed.items() if s in request.calendar and read.get(s) != f.etag]
    return found


class FileReader:
    """The files that a request may read. One is decoded at a time: it takes some hundred megabytes.

    `archived` returns a file that an archive has already, or None.
    """

    def __init__(
        self, server: FileServer, store: Store, clock: Callable[[], datetime], archived: ArchivedDay = lambda _: None
    ) -> None:
        self._server, self._clock, self._archived = server, clock, archived
        self._store = SourceStore.beside(store)
        self._files: dict[tuple[Timeframe, date], DayFile] = {}
        self._one = asyncio.Semaphore(1)

    async def offered(self, request: BackfillRequest) -> BackfillRequest:
        """Return the request with the sessions whose file is published. Raises VendorError."""
        if not request.days:
            return request
        if request.refresh is Refresh.FILES:
            files = [f for some in (await unread(self._server, self._store, request)).values() for f in some]
        else:
            listings = [
                await self._server.listing(request.market.kind, timeframe, request.days)
                for timeframe in sources(request.timeframes)
            ]
            files = [file for listed in listings for file in listed.values()]
        self._files = {(file.timeframe, file.session): file for file in files}
        timeframes = {file.timeframe for file in files}
        return replace(request, files={t: {s for of, s in self._files if of == t} for t in timeframes})

    @asynccontextmanager
    async def day(self, call: GroupedCall, request: BackfillRequest) -> AsyncIterator[MarketDay]:
        """Read the file of a call; record it as read after the body, if it was for all symbols. Raises VendorError."""
        file = self._files[call.timeframe, call.session]
        async with self._one:
            found: MarketDay | None = await asyncio.to_thread(self._archived, file)
            yield found or await self._fetched(file, request)
        if request.refresh is Refresh.FILES or len(call.symbols) == len(request.market.symbols):
            name, etag, modified = request.market.name, file.etag, file.modified
            await asyncio.to_thread(
                self._store.record_file, name, call.timeframe, call.session, etag, modified, self._clock()
            )

    async def _fetched(self, file: DayFile, request: BackfillRequest) -> MarketDay:
        path = await self._server.fetch(file)
        try:
            return await asyncio.to_thread(read_day, path, file, request.calendar.hours.zone)
        finally:
            path.unlink(missing_ok=True)

    async def of_the_api(self, call: GroupedCall, request: BackfillRequest) -> set[str]:
        """Return the symbols of a call whose session is stored from the REST API."""
        names, zone = [symbol.name for symbol in call.symbols], request.calendar.hours.zone
        return await asyncio.to_thread(self._store.symbols_from, POLYGON, names, call.timeframe, call.session, zone)

    async def compared(self, symbol: Symbol, call: GroupedCall, stored: Bars, bars: Bars) -> bool:
        """Record how the stored bars of a session differ from its file's; return whether they do."""
        found = difference(stored, bars)
        await asyncio.to_thread(
            self._store.record_difference,
            symbol.name,
            call.timeframe,
            call.session,
            POLYGON_FILES,
            found,
            self._clock(),
        )
        return found is not None


def bars_of(day: MarketDay, ticker: str, request: BackfillRequest) -> tuple[Bars, list[BadBar]]:
    """Return a ticker's bars of a file, and what was left out of it that is or may be the ticker's."""
    bad = list(day.rejected.get(ticker, ()))
    start, *_ = day_starts([day.file.session], request.calendar.hours.zone)
    if nameless := day.rejected.get(""):
        bad.append(BadBar(int(start), f"the file has rows without a ticker: {nameless[0].reason}"))
    spelled = next((t for t in day.rows if t != ticker and t.casefold() == ticker.casefold()), None)
    if ticker not in day.rows and spelled:
        bad.append(BadBar(int(start), f"the file has {spelled} instead of {ticker}"))
    return day.bars(ticker), bad
