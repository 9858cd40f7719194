"""Filling a market's bars: plan what is missing, ask for it, store each page with the sessions it answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Literal, Protocol

from backfill_assets.adapters.polygon import GroupedDay, Page
from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers, WriteContext, Written
from backfill_assets.domain.answers import Answers, PageCutter, WholeSessions, without_bars
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.errors import KeyRefused, NotEntitled, VendorError, VendorUnreachable, first_error
from backfill_assets.domain.request_plan import GroupedRequest, RangeRequest, Request
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import Timeframe, made_from, sources
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, plan, recorded, underived
from backfill_assets.pipelines.failure_policy import FailurePolicy, Left
from backfill_assets.pipelines.progress import Progress, Silent


class Vendor(Protocol):
    """What this needs of a vendor's client."""

    def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncIterator[Page]:
        """The bars from `start` to `end`, both included, page by page."""

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """The daily bar of every ticker."""


@dataclass(slots=True)
class SettledSeries:
    """How one symbol's one timeframe stands after the work."""

    symbol: Symbol
    timeframe: Timeframe
    wanted: tuple[date, ...]
    answers: Answers
    written: Written = field(default_factory=Written)
    before: Answers = field(default_factory=dict)
    """What stood recorded before the work."""
    dropped: int = 0
    error: VendorError | None = None

    @property
    def missing(self) -> list[date]:
        """Wanted sessions that have no bars."""
        return without_bars(self.wanted, self.answers)


def _terms(
    order: BackfillRequest, symbol: Symbol, timeframe: Timeframe, sessions: Sequence[date], asked_at: datetime
) -> WriteContext:
    return WriteContext(
        zone=order.calendar.hours.zone,
        asked_at=asked_at,
        derived=made_from(timeframe, order.market.timeframes),
        finished=order.finished(symbol, sessions),
        first_pause=order.retries.first_pause,
    )


def _derive_what_lacks(store: BarStore, order: BackfillRequest, answers: SeriesAnswers) -> None:
    for symbol, source, sessions in underived(order, answers):
        store.derive(symbol.name, source, sessions, _terms(order, symbol, source, sessions, order.now))


async def fetch_missing(
    order: BackfillRequest,
    store: BarStore,
    vendor: Vendor,
    *,
    clock: Callable[[], datetime],
    at_once: int = 3,
    progress: Progress | None = None,
) -> list[SettledSeries]:
    """Fetch what the order still needs, `at_once` symbols at a time, and say how each series then stands.

    A series that fails is told of in its `error`, its sessions count as tried; the others go on. Sessions before the
    reach of the vendor's plan are noted as refused, and are no failure. A refused key, a database that stays away, a
    plan that has never given anything and refuses three symbols (or all, where they are fewer), or a vendor that cannot
    be reached ends everything at once and is raised; in the last two cases the sessions count as never asked for.
    `clock` tells the present, aware.
    """
    watcher = progress or Silent()
    answers = await asyncio.to_thread(recorded, store, order)
    await asyncio.to_thread(_derive_what_lacks, store, order, answers)
    requests = plan(order, answers)
    watcher.planned(order.market, requests)
    work = _Work(order, store, vendor, clock, watcher, requests)
    gate = asyncio.Semaphore(at_once)
    try:
        async with asyncio.TaskGroup() as tasks:
            for group in _together(requests):
                tasks.create_task(work.through(gate, group))
        await work.end()
    except BaseExceptionGroup as group_of_errors:
        raise first_error(group_of_errors) from None
    return work.series(answers, await asyncio.to_thread(recorded, store, order))


class SeriesFailed(VendorError):
    """Some series failed after all retries; the others are whole, and what was answered is stored."""


def series_failure(series: Sequence[SettledSeries]) -> SeriesFailed | None:
    """What to raise where series have an error, naming the first five; None where none has."""
    asked = [s for s in series if s.timeframe.source == s.timeframe]
    failed = [s for s in asked if s.error]
    if not failed:
        return None
    told = "; ".join(f"{s.symbol} {s.timeframe}: {s.error}" for s in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return SeriesFailed(f"{len(failed)} of {len(asked)} series could not be fetched whole: {told}{more}")


_AFTER_THE_DAYS = 3
"""Symbols whose minutes are asked for after the market's days, where there are more."""


def _together(requests: Sequence[Request]) -> list[list[Request]]:
    """Requests of one symbol follow each other, the newest days first: a plan may not reach back to the oldest.

    Those for a day of all symbols stand alone, the newest first too: after the first symbols, which show what the plan gives,
    and before the last, so that everybody's days can be told of while minutes still come in.
    """
    by_symbol: dict[Symbol, list[Request]] = {}
    days: list[Request] = []
    for request in requests:
        if isinstance(request, RangeRequest):
            by_symbol.setdefault(request.symbol, []).append(request)
        else:
            days.append(request)
    symbols = [_newest_first(group) for group in by_symbol.values()]
    first = symbols[:-_AFTER_THE_DAYS] or symbols
    return [*first, *([day] for day in _newest_first(days)), *symbols[len(first) :]]


def _newest_first(requests: Sequence[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: request.start, reverse=True)


class _Work:
    """One order being worked on."""

    def __init__(  # what `fetch_missing` was given, and what it will ask for
        self,
        order: BackfillRequest,
        store: BarStore,
        vendor: Vendor,
        clock: Callable[[], datetime],
        progress: Progress,
        requests: Sequence[Request],
    ) -> None:
        self._order = order
        self._store = store
        self._vendor = vendor
        self._clock = clock
        self._progress = progress
        self._doubts = FailurePolicy(requests, self._note_failures)
        self._left = Counter((symbol, request.timeframe) for request in requests for symbol in request.symbols)
        self._series = {
            (symbol.name, timeframe.name): SettledSeries(symbol, timeframe, sessions, {})
            for symbol, sessions in order.wanted.items()
            for timeframe in (*sources(order.timeframes), *order.timeframes)
        }

    def series(self, before: SeriesAnswers, answers: SeriesAnswers) -> list[SettledSeries]:
        for key, series in self._series.items():
            series.before, series.answers = before.get(key, {}), answers.get(key, {})
            source = self._series[series.symbol.name, series.timeframe.source.name]
            series.error = source.error
        return list(self._series.values())

    async def through(self, gate: asyncio.Semaphore, requests: Sequence[Request]) -> None:
        """One request after the other; the failure of one is noted in its series."""
        async with gate:
            for request in requests:
                error = await self._tried(request)
                for symbol in request.symbols if error else ():
                    self._of(symbol, request).error = error
                self._progress.ended(request, error)
                for symbol in request.symbols:
                    self._ended(symbol, request.timeframe)

    def _ended(self, symbol: Symbol, source: Timeframe) -> None:
        self._left[symbol, source] -= 1
        if not self._left[symbol, source]:
            self._progress.settled(symbol, source)

    async def _tried(self, request: Request) -> VendorError | None:
        """Carry a request out, and note what of it failed; the error that its series has to tell of."""
        left = {symbol: set(request.sessions) for symbol in request.symbols}
        try:
            if isinstance(request, GroupedRequest):
                await self._grouped(request, left)
            else:
                await self._range(request, left)
        except KeyRefused:
            raise
        except VendorUnreachable as silence:
            self._doubts.unheard(request, left, silence)
            return silence
        except NotEntitled as refusal:
            await self._doubts.heard()
            return await self._refused(request, refusal, left)
        except VendorError as failure:
            await self._doubts.heard()
            await self._note_failures(request, left, refused=False)
            return failure
        return None

    async def end(self) -> None:
        """Every request went through. Raises NotEntitled where the plan turns out to have nothing."""
        await self._doubts.end()

    async def _refused(self, request: Request, refusal: NotEntitled, left: Left) -> VendorError | None:
        """What a refusal means: the plan ends before today, does not reach back so far, or does not have the symbol."""
        if await asyncio.to_thread(self._store.any_filled, [s.name for s in self._order.wanted]):
            await self._doubts.given()
        newest = request.end == self._order.newest
        if newest and isinstance(request, RangeRequest) and len(request.sessions) > 1:
            # Some plans refuse the day that is not over everywhere: what is before it may be given.
            error = await self._tried(replace(request, sessions=request.sessions[:-1]))
            await self._doubts.tried(request, {symbol: {request.end} for symbol in left}, refused=False)
            return error
        await self._doubts.refused(request, left, refusal, for_good=not newest)
        if newest:
            return None
        given = await asyncio.to_thread(
            self._store.any_filled, [s.name for s in request.symbols], request.timeframe.name
        )
        return None if given else refusal

    async def _range(self, request: RangeRequest, left: Mapping[Symbol, set[date]]) -> None:
        cutter = PageCutter(request.sessions, self._order.calendar.hours.zone)
        pages = self._vendor.pages(request.symbol.ticker, request.timeframe, request.start, request.end)
        async with aclosing(pages):  # type: ignore[type-var]  # an async generator, told as the iterator it is used as
            async for page in pages:
                answer = cutter.feed(page.bars, more=page.more)
                written = await self._store_answer(request.symbol, request, answer)
                left[request.symbol].difference_update(answer.sessions)
                self._of(request.symbol, request).dropped = cutter.dropped
                self._progress.answered(request, len(answer.sessions), written)

    async def _grouped(self, request: GroupedRequest, left: Mapping[Symbol, set[date]]) -> None:
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
            left[symbol].clear()
            self._progress.answered(request, 1, written)

    async def _store_answer(self, symbol: Symbol, request: Request, answer: WholeSessions) -> Written:
        await self._doubts.heard()
        await self._doubts.given()
        terms = _terms(self._order, symbol, request.timeframe, answer.sessions, self._clock())
        written = await asyncio.to_thread(self._store.write, symbol.name, request.timeframe, answer, terms)
        self._of(symbol, request).written += written
        return written

    async def _note_failures(self, request: Request, left: Left, *, refused: bool) -> None:
        at = self._clock()
        for symbol, sessions in left.items():
            terms = _terms(self._order, symbol, request.timeframe, (), at)
            await asyncio.to_thread(
                self._store.write_failures, symbol.name, request.timeframe, sorted(sessions), terms, refused=refused
            )

    def _of(self, symbol: Symbol, request: Request) -> SettledSeries:
        return self._series[symbol.name, request.timeframe.name]
