"""Filling a market's bars: plan what is missing, ask for it, store each page with the sessions it answers.

What lives here: the flow, and which failures end it. What does not: how a request is retried (the client), how the plan is
made (the domain), how rows are written (the store).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, Protocol

from backfill_assets.adapters.polygon import GroupedDay, Page
from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers, Written
from backfill_assets.domain.answers import Answers, PageCutter, WholeSessions, unanswered, without_bars
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_end, week_start
from backfill_assets.domain.errors import KeyRefused, NotEntitled, VendorError
from backfill_assets.domain.request_plan import GroupedRequest, RangeRequest, Request, plan_days, plan_series
from backfill_assets.domain.sessions import Calendar, day_starts
from backfill_assets.domain.timeframes import WEEK_1, Base, Timeframe, made_from, sources
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.progress import Progress, Silent

SOURCE = "polygon"
"""What the column `source` says of bars that the vendor gave."""


class Vendor(Protocol):
    """What this needs of a vendor's client."""

    def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncIterator[Page]:
        """The bars from `start` to `end`, both included, page by page."""

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """The daily bar of every ticker."""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be complete: finished sessions of symbols, in timeframes. A refresh asks again for what is stored.

    `newest` is the last finished session of the market: nothing after it is asked for, whatever else would profit.
    """

    market: Market
    calendar: Calendar
    wanted: Mapping[Symbol, tuple[date, ...]]
    timeframes: tuple[Timeframe, ...]
    newest: date | None
    refresh: bool = False

    @property
    def days(self) -> DayRange | None:
        """From the first wanted session to the last, or None where none is wanted."""
        spans = [s for s in self.wanted.values() if s]
        return DayRange(min(s[0] for s in spans), max(s[-1] for s in spans)) if spans else None


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


def recorded(store: BarStore, order: Order) -> SeriesAnswers:
    """What stands recorded of everything that the order names, and of what that is derived from."""
    if order.days is None:
        return {}
    days = DayRange(week_start(order.days.start), week_end(order.days.end))
    return store.answers([s.name for s in order.wanted], order.market.timeframes, days)


def plan(order: Order, answers: SeriesAnswers) -> list[Request]:
    """The fewest requests that the order still needs: minutes symbol by symbol, days whichever way is cheaper."""
    requests: list[Request] = []
    for source in sources(order.timeframes):
        missing = {s: _to_ask(order, s, source, sessions, answers) for s, sessions in order.wanted.items()}
        if source.base is Base.DAY:
            requests += plan_days(source, missing, order.calendar)
        else:
            for symbol, sessions in missing.items():
                requests += plan_series(symbol, source, sessions, order.calendar)
    return requests


def _to_ask(
    order: Order, symbol: Symbol, source: Timeframe, sessions: Sequence[date], answers: SeriesAnswers
) -> Sequence[date]:
    """The sessions that a source is asked for; days in whole weeks where weeks are made from them."""
    if sessions and order.newest and WEEK_1 in order.timeframes and source == WEEK_1.source:
        last = max(sessions[-1], min(order.newest, week_end(sessions[-1])))
        sessions = order.calendar.within(DayRange(week_start(sessions[0]), last))
    return sessions if order.refresh else unanswered(sessions, answers.get((symbol.name, source.name), {}))


def _derive_what_lacks(store: BarStore, order: Order, answers: SeriesAnswers) -> None:
    """Make derived bars of sessions whose source is stored and that lack them: a timeframe was added to the universe."""
    for symbol, sessions in order.wanted.items():
        for source in sources(order.timeframes):
            derived = made_from(source, order.market.timeframes)
            stored = answers.get((symbol.name, source.name), {})
            lacking = [
                s
                for s in sessions
                if s in stored
                and stored[s].bars
                and any(s not in answers.get((symbol.name, t.name), {}) for t in derived)
            ]
            if lacking:
                store.derive(symbol.name, source, lacking, order.calendar.hours.zone, derived)


async def fill(
    order: Order, store: BarStore, vendor: Vendor, *, at_once: int = 3, progress: Progress | None = None
) -> list[Series]:
    """Fetch what the order still needs, `at_once` symbols at a time, and say how each series then stands.

    A series that fails is told of in its `error`; the others go on. A refused key, a missing entitlement or a database
    that stays away ends everything at once and is raised.
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
    failed = [s for s in series if s.error and s.timeframe.source == s.timeframe]
    if failed:
        told = "; ".join(f"{s.symbol} {s.timeframe}: {s.error}" for s in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise SeriesFailed(f"{len(failed)} of {len(series)} series could not be fetched whole: {told}{more}")


def _together(requests: Sequence[Request]) -> list[list[Request]]:
    """Requests of one symbol follow each other; grouped ones stand alone."""
    by_label: dict[object, list[Request]] = {}
    for request in requests:
        key = request.symbol if isinstance(request, RangeRequest) else request
        by_label.setdefault(key, []).append(request)
    return list(by_label.values())


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
                except (KeyRefused, NotEntitled):
                    raise
                except VendorError as failure:
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
            self._store.write, symbol.name, request.timeframe, answer, zone, SOURCE, derived
        )
        self._of(symbol, request).written += written
        return written

    def _of(self, symbol: Symbol, request: Request) -> Series:
        return self._series[symbol.name, request.timeframe.name]
