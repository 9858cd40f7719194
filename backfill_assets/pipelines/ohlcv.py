"""Filling a market's bars: plan what is missing, ask for it, store each page with the sessions it answers.

What lives here: the flow, and which failures end it. What does not: how a request is retried (the client), how the plan is
made (the domain), how rows are written (the store).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, Protocol

from backfill_assets.adapters.polygon import GroupedDay, Page
from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers, Written
from backfill_assets.domain.answers import Answers, PageCutter, WholeSessions, unanswered, without_bars
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.errors import KeyRefused, NotEntitled, VendorError
from backfill_assets.domain.request_plan import GroupedRequest, RangeRequest, Request
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import Timeframe, made_from, sources
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.orders import Order, plan, recorded, underived
from backfill_assets.pipelines.progress import Progress, Silent

SOURCE = "polygon"
"""What the column `source` says of bars that the vendor gave."""


class Vendor(Protocol):
    """What this needs of a vendor's client."""

    def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncIterator[Page]:
        """The bars from `start` to `end`, both included, page by page."""

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """The daily bar of every ticker."""


@dataclass(slots=True)
class Series:
    """How one symbol's one timeframe stands after the work."""

    symbol: Symbol
    timeframe: Timeframe
    wanted: tuple[date, ...]
    answers: Answers
    written: Written = field(default_factory=Written)
    dropped: int = 0
    error: VendorError | None = None

    @property
    def missing(self) -> list[date]:
        """Wanted sessions that have no bars."""
        return without_bars(self.wanted, self.answers)

    @property
    def open(self) -> list[date]:
        """Missing sessions that are not settled as empty."""
        return unanswered(self.wanted, self.answers)


def _derive_what_lacks(store: BarStore, order: Order, answers: SeriesAnswers) -> None:
    zone = order.calendar.hours.zone
    for symbol, source, sessions in underived(order, answers):
        derived = made_from(source, order.timeframes)
        store.derive(symbol.name, source, sessions, zone, derived, order.finished(sessions))


async def fill(
    order: Order, store: BarStore, vendor: Vendor, *, at_once: int = 3, progress: Progress | None = None
) -> list[Series]:
    """Fetch what the order still needs, `at_once` symbols at a time, and say how each series then stands.

    A series that fails is told of in its `error`; the others go on. A refused key, a database that stays away, or a missing
    entitlement before anything was answered ends everything at once and is raised.
    """
    watcher = progress or Silent()
    answers = await asyncio.to_thread(recorded, store, order)
    await asyncio.to_thread(_derive_what_lacks, store, order, answers)
    requests = plan(order, answers)
    watcher.planned(order.market, requests)
    work = _Work(order, store, vendor, watcher)
    gate = asyncio.Semaphore(at_once)
    try:
        async with asyncio.TaskGroup() as tasks:
            for group in _together(requests):
                tasks.create_task(work.through(gate, group))
    except BaseExceptionGroup as group_of_errors:
        raise _first(group_of_errors) from None
    return work.series(await asyncio.to_thread(recorded, store, order))


class SeriesFailed(VendorError):
    """Some series failed after all retries; the others are whole, and what was answered is stored."""


def raise_failures(series: Sequence[Series]) -> None:
    """Raise SeriesFailed, naming the first five, where series have an error."""
    asked = [s for s in series if s.timeframe.source == s.timeframe]
    failed = [s for s in asked if s.error]
    if failed:
        told = "; ".join(f"{s.symbol} {s.timeframe}: {s.error}" for s in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise SeriesFailed(f"{len(failed)} of {len(asked)} series could not be fetched whole: {told}{more}")


def _together(requests: Sequence[Request]) -> list[list[Request]]:
    """Requests of one symbol follow each other, the newest days first: a plan may not reach back to the oldest.

    Grouped ones stand alone.
    """
    by_label: dict[object, list[Request]] = {}
    for request in requests:
        key = request.symbol if isinstance(request, RangeRequest) else request
        by_label.setdefault(key, []).append(request)
    return [sorted(group, key=lambda r: r.start, reverse=True) for group in by_label.values()]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


class _Work:
    """One order being worked on."""

    def __init__(self, order: Order, store: BarStore, vendor: Vendor, progress: Progress) -> None:
        self._order = order
        self._store = store
        self._vendor = vendor
        self._progress = progress
        self._answered = False
        self._series = {
            (symbol.name, timeframe.name): Series(symbol, timeframe, sessions, {})
            for symbol, sessions in order.wanted.items()
            for timeframe in (*sources(order.timeframes), *order.timeframes)
        }

    def series(self, answers: SeriesAnswers) -> list[Series]:
        for key, series in self._series.items():
            series.answers = answers.get(key, {})
            source = self._series[series.symbol.name, series.timeframe.source.name]
            series.error = source.error
        return list(self._series.values())

    async def through(self, gate: asyncio.Semaphore, requests: Sequence[Request]) -> None:
        """One request after the other; the failure of one is noted in its series."""
        async with gate:
            for request in requests:
                error: VendorError | None = None
                try:
                    if isinstance(request, GroupedRequest):
                        await self._grouped(request)
                    else:
                        await self._range(request)
                except KeyRefused:
                    raise
                except VendorError as failure:
                    if isinstance(failure, NotEntitled) and not self._answered:
                        raise  # whatever else is asked for would be refused too
                    error = failure
                    for symbol in request.symbols:
                        self._of(symbol, request).error = failure
                self._progress.ended(request, error)

    async def _range(self, request: RangeRequest) -> None:
        cutter = PageCutter(request.sessions, self._order.calendar.hours.zone)
        pages = self._vendor.pages(request.symbol.ticker, request.timeframe, request.start, request.end)
        async with aclosing(pages):  # type: ignore[type-var]  # an async generator, told as the iterator it is used as
            async for page in pages:
                answer = cutter.feed(page.bars, more=page.more)
                written = await self._store_answer(request.symbol, request, answer)
                self._of(request.symbol, request).dropped = cutter.dropped
                self._progress.answered(request, len(answer.sessions), written)

    async def _grouped(self, request: GroupedRequest) -> None:
        zone = self._order.calendar.hours.zone
        day = await self._vendor.grouped_daily(self._order.market.kind.value, request.session)
        row_of = {ticker: row for row, ticker in enumerate(day.tickers)}
        for symbol in request.symbols:
            row = row_of.get(symbol.ticker)
            bars = Bars.empty() if row is None else day.bars.take(slice(row, row + 1))
            # The grouped stamp is the close; a daily bar is stamped at its day's beginning.
            bars = replace(bars, timestamp=day_starts([request.session] * len(bars), zone))
            answer = PageCutter(request.sessions, zone).feed(bars, more=False)
            written = await self._store_answer(symbol, request, answer)
            self._progress.answered(request, 1, written)

    async def _store_answer(self, symbol: Symbol, request: Request, answer: WholeSessions) -> Written:
        zone, derived = self._order.calendar.hours.zone, made_from(request.timeframe, self._order.market.timeframes)
        written = await asyncio.to_thread(
            self._store.write,
            symbol.name,
            request.timeframe,
            answer,
            zone,
            SOURCE,
            derived,
            self._order.finished(answer.sessions),
        )
        self._answered = True
        self._of(symbol, request).written += written
        return written

    def _of(self, symbol: Symbol, request: Request) -> Series:
        return self._series[symbol.name, request.timeframe.name]
