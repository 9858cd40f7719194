"""Fetch a market's bars: plan what is missing, call the vendor, store each page with the sessions that it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import batched
from typing import Literal, Protocol

from backfill_assets.adapters.polygon import GroupedDay, Page
from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers, WriteContext, Written
from backfill_assets.domain.answers import Answers, CompleteSessions, PageCutter, RejectedBar, missing_sessions
from backfill_assets.domain.bars import BadBar, Bars
from backfill_assets.domain.errors import (
    KeyRefused,
    NotEntitled,
    VendorError,
    VendorUnavailable,
    VendorUnreachable,
    first_error,
)
from backfill_assets.domain.fallbacks import lacks
from backfill_assets.domain.request_plan import ApiCall, GroupedCall, RangeCall
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.sources import POLYGON, POLYGON_FILES, fallbacks
from backfill_assets.domain.timeframes import Base, Timeframe, made_from, sources
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh, needed, plan, recorded, underived
from backfill_assets.pipelines.failure_policy import RECENT, Failure, FailurePolicy, mistaken
from backfill_assets.pipelines.fallbacks import FallbackFetch, OpenFallback
from backfill_assets.pipelines.flat_files import FileReader, bars_of
from backfill_assets.pipelines.progress import SILENT, Progress


class Vendor(Protocol):
    """The part of a vendor's client that a fetch needs."""

    def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncGenerator[Page, None]:
        """Yield the bars from `start` to `end`, both included, page by page."""

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """Return the daily bar of every ticker."""


@dataclass(frozen=True, slots=True)
class SettledSeries:
    """One timeframe of one symbol, of which nothing more is to be fetched.

    wanted   the sessions that the request has of it
    answers  what is now recorded of it
    before   what was recorded before
    written  what was written of it; of a derived timeframe it is not counted
    dropped  how many bars outside the requested sessions the vendor sent
    rejected  bars that were left out of the answers
    error    why sessions of it, or of its source, could not be fetched
    """

    symbol: Symbol
    timeframe: Timeframe
    wanted: tuple[date, ...]
    answers: Answers
    before: Answers = field(default_factory=dict)
    written: Written = field(default_factory=Written)
    dropped: int = 0
    rejected: tuple[RejectedBar, ...] = ()
    error: VendorError | None = None

    @property
    def missing(self) -> list[date]:
        """Wanted sessions that have no bars."""
        return missing_sessions(self.wanted, self.answers)


@dataclass(frozen=True, slots=True)
class OtherSources:
    """What a market may use beside the REST API: a reader of flat files, and what opens the client of a fallback."""

    reader: FileReader | None = None
    fallback: OpenFallback | None = None


NO_OTHERS = OtherSources()


async def fetch_missing(
    request: BackfillRequest,
    store: BarStore,
    vendor: Vendor,
    *,
    clock: Callable[[], datetime],
    others: OtherSources = NO_OTHERS,
    at_once: int = 3,
    progress: Progress = SILENT,
    run_id: str | None = None,
) -> AsyncGenerator[SettledSeries, None]:
    """Fetch what is missing, `at_once` symbols at a time, and yield each series as soon as it is settled.

    A source timeframe is followed by the timeframes derived from it. The fetch continues while the caller works on a series.
    It ends, with its calls cancelled, when the generator is closed: iterate within `contextlib.aclosing`. `clock` returns the
    present, aware; `run_id` is that of the run, for the history of bars. What cannot be read from a flat file is requested
    from the REST API, if the market uses both. Fallbacks are asked at the end for sessions that the vendor lacks; the series
    are settled after that.

    A series that fails has an `error`, and its sessions are recorded as failed; the others continue. Sessions that the
    vendor's plan does not reach back to are recorded as refused, which is not a failure. Some errors end the fetch and are
    raised: a refused key, an unavailable database, a plan that has never allowed anything and refuses three symbols (or all,
    if there are fewer), and an unreachable vendor. In the last two cases the sessions count as never requested.
    """
    before = await asyncio.to_thread(recorded, store, request)
    request = await _with_files(request, before, others.reader, progress)
    fetch = _Fetch(request, store, vendor, others, clock, progress, before, run_id)
    work = asyncio.create_task(fetch.run(at_once))
    work.add_done_callback(lambda _: fetch.settled.put_nowait([]))
    try:
        while keys := await fetch.settled.get():
            for series in await asyncio.to_thread(fetch.read, keys):
                yield series
        for series in await fetch.fill(unreachable=isinstance(work.exception(), VendorError)):
            yield series
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _with_files(
    request: BackfillRequest, before: SeriesAnswers, reader: FileReader | None, progress: Progress
) -> BackfillRequest:
    """Return the request with the sessions whose flat file can be read: none if there is no list and a REST API instead."""
    if all(call.source != POLYGON_FILES for call in plan(request, before)):
        return request
    if reader:
        try:
            return await reader.offered(request)
        except VendorError as error:
            if POLYGON not in request.market.sources:
                raise
            progress.waiting(f"{error}. The REST API is used instead.")
    return replace(request, files={})


class SeriesFailed(VendorError):
    """Some series failed after all retries. The others are complete, and what was fetched is stored."""


def series_failure(request: BackfillRequest, series: Iterable[SettledSeries]) -> SeriesFailed | None:
    """Return one error that names the first five failed series in the request's order, or None if there are none."""
    symbols = list(request.wanted)
    fetched = [s for s in series if s.timeframe.source == s.timeframe]
    failed = [s for s in fetched if s.error]
    if not failed:
        return None
    failed.sort(key=lambda s: (symbols.index(s.symbol), s.timeframe.seconds))
    named = "; ".join(f"{s.symbol} {s.timeframe}: {s.error}" for s in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return SeriesFailed(f"{len(failed)} of {len(fetched)} series could not be fetched completely: {named}{more}")


_TOGETHER = 50
"""Symbols of a file that are stored in one transaction, which others wait for: about 0.1 s."""

_AFTER_THE_DAYS = 3
"""How many symbols are fetched after the grouped calls, if there are more."""


def _grouped(calls: Sequence[ApiCall]) -> list[list[ApiCall]]:
    """Group the calls of each symbol, the newest days first, because a plan may not reach back to the oldest.

    Each grouped call is a group of its own, also the newest first: after the first symbols, which show what the vendor's plan
    allows, and before the last ones, so that the daily bars settle while minutes are still being fetched.
    """
    by_symbol: dict[Symbol, list[ApiCall]] = {}
    days: list[ApiCall] = []
    for call in sorted(calls, key=lambda call: call.start, reverse=True):
        if isinstance(call, RangeCall):
            by_symbol.setdefault(call.symbol, []).append(call)
        else:
            days.append(call)
    symbols = [by_symbol[symbol] for symbol in dict.fromkeys(c.symbol for c in calls if isinstance(c, RangeCall))]
    first = symbols[:-_AFTER_THE_DAYS] or symbols
    return [*first, *([day] for day in days), *symbols[len(first) :]]


type _Key = tuple[Symbol, Timeframe]
"""A symbol and a source timeframe."""


@dataclass(slots=True)
class _Source:
    """The fetch of one source timeframe of one symbol: the calls that are left, and the result so far."""

    calls: int = 0
    changed: bool = False
    written: Written = field(default_factory=Written)
    dropped: int = 0
    rejected: list[RejectedBar] = field(default_factory=list)
    error: VendorError | None = None


class _Fetch:
    """The calls of one request, in progress. `settled` receives keys of which nothing more is to be fetched."""

    def __init__(
        self,
        request: BackfillRequest,
        store: BarStore,
        vendor: Vendor,
        others: OtherSources,
        clock: Callable[[], datetime],
        progress: Progress,
        before: SeriesAnswers,
        run_id: str | None,
    ) -> None:
        self._request = request
        self._bars = store
        self._vendor = vendor
        self._reader = others.reader
        self._fallback = others.fallback if fallbacks(request.market.sources) else None
        self._clock = clock
        self._progress = progress
        self._before = before
        self._run_id = run_id
        self._calls = plan(request, before)
        self._policy = FailurePolicy(self._calls)
        self._derived = {source: made_from(source, request.timeframes) for source in sources(request.timeframes)}
        self._sources = {(symbol, source): _Source() for symbol in request.wanted for source in self._derived}
        for call in self._calls:
            for symbol in call.symbols:
                self._sources[symbol, call.timeframe].calls += 1
                self._sources[symbol, call.timeframe].changed = True
        self._waiting: list[_Key] = []
        self._lacking: list[_Key] = []
        self._recording: list[Failure] = []
        self._reach: dict[Timeframe, date | None] = {}
        self.settled: asyncio.Queue[list[_Key]] = asyncio.Queue()

    async def run(self, at_once: int) -> None:
        """Derive what is missing, and make all calls, each symbol's one after another."""
        self._progress.planned(self._request.market, self._calls)
        for symbol, source, sessions in underived(self._request, self._before):
            context = self._context(symbol, source, sessions)
            await asyncio.to_thread(self._bars.derive, symbol.name, source, sessions, context)
            self._sources[symbol, source].changed = True
        self._settle(key for key, source in self._sources.items() if not source.calls)
        gate = asyncio.Semaphore(at_once)
        try:
            async with asyncio.TaskGroup() as tasks:
                for group in _grouped(self._calls):
                    tasks.create_task(self._make(group, gate))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        await self._record(self._policy.reached())
        for failure in self._policy.finish():
            await self._record(await self._judged(failure))
        self._settle([])

    async def fill(self, *, unreachable: bool) -> list[SettledSeries]:
        """Ask the fallbacks for what the vendor lacks, or has not answered because it is `unreachable`, and read the rest."""
        if self._fallback is None:
            return []
        asked = FallbackFetch(self._bars, self._request, self._fallback, self._context, self._progress)
        keys = list(self._sources) if unreachable else self._lacking
        await asyncio.to_thread(asked.lacking.find, keys, unreachable=unreachable)
        filled = await asked.run()
        for key, written in filled.items():
            self._sources[key].changed = True
            self._sources[key].written += written
        rest = [key for key in keys if key in filled] if unreachable else keys
        return await asyncio.to_thread(self.read, rest, last=True)

    def read(self, keys: Sequence[_Key], *, last: bool = False) -> list[SettledSeries]:
        """Read the settled series, and those derived from them. Series that fallbacks may fill are read the `last` time."""
        request, changed = self._request, [key for key in keys if self._sources[key].changed]
        answers: SeriesAnswers = {}
        if changed and request.weeks:
            timeframes = {t for _, source in changed for t in (source, *self._derived[source])}
            answers = self._bars.answers(
                {symbol.name for symbol, _ in changed}, timeframes, request.weeks, request.market.witness
            )
        series = []
        for symbol, source in keys:
            result = self._sources[symbol, source]
            if self._fallback and not last:
                known = answers.get((symbol.name, source.name), self._before.get((symbol.name, source.name), {}))
                if any(
                    lacks(known.get(s), request.retries)
                    for s in needed(request, symbol, source, request.wanted[symbol])
                ):
                    self._lacking.append((symbol, source))
                    continue
            for timeframe in (source, *self._derived[source]):
                name = symbol.name, timeframe.name
                before = self._before.get(name, {})
                one = SettledSeries(
                    symbol,
                    timeframe,
                    request.expected(symbol, timeframe),
                    answers.get(name, before),
                    before,
                    error=result.error,
                )
                if timeframe == source:
                    rejected = tuple(result.rejected)
                    one = replace(one, written=result.written, dropped=result.dropped, rejected=rejected)
                series.append(one)
        return series

    def _settle(self, keys: Iterable[_Key]) -> None:
        """Queue the keys whose failures are all recorded; the others wait."""
        undecided = {key for failure in (*self._policy.undecided, *self._recording) for key in failure.series}
        waiting = [*self._waiting, *keys]
        self._waiting = [key for key in waiting if key in undecided]
        if settled := [key for key in waiting if key not in undecided]:
            self.settled.put_nowait(settled)

    async def _make(self, calls: Sequence[ApiCall], gate: asyncio.Semaphore) -> None:
        async with gate:
            for call in calls:
                error = await self._attempt(call)
                done: list[_Key] = []
                for symbol in call.symbols:
                    source = self._sources[symbol, call.timeframe]
                    source.calls -= 1
                    source.error = error or source.error
                    if not source.calls:
                        done.append((symbol, call.timeframe))
                self._progress.ended(call, error)
                self._settle(done)

    async def _attempt(self, call: ApiCall) -> VendorError | None:
        """Make a call and record what of it failed; return the error of its series."""
        unanswered = {symbol: set(call.sessions) for symbol in call.symbols}
        failure = Failure(call, unanswered)
        try:
            if isinstance(call, RangeCall):
                await self._fetch_range(call, unanswered)
            elif call.source == POLYGON_FILES:
                return await self._read_file(call, unanswered)
            else:
                await self._fetch_grouped(call, unanswered)
        except KeyRefused:
            raise
        except VendorUnreachable as error:
            self._policy.unreachable(failure, error)
            return error
        except NotEntitled as error:
            await self._record(self._policy.reached())
            return await self._refused(failure, error)
        except VendorError as error:
            await self._record([*self._policy.reached(), failure])
            return error
        return None

    async def _refused(self, failure: Failure, error: NotEntitled) -> VendorError | None:
        """Find out whether the vendor's plan ends before today, does not reach back so far, or excludes the symbol."""
        call = failure.call
        if await asyncio.to_thread(self._bars.any_filled, [s.name for s in self._request.wanted]):
            await self._record(self._policy.entitled())
        newest = call.end == self._request.newest
        if newest and isinstance(call, RangeCall) and len(call.sessions) > 1:
            # Some plans refuse any range that includes the current day, and allow the days before it.
            rest = await self._attempt(replace(call, sessions=call.sessions[:-1]))
            await self._record(self._policy.failed(replace(failure, sessions={call.symbol: {call.end}})))
            return rest
        await self._record(self._policy.refused(replace(failure, refused=not newest), error))
        if newest:
            return None
        names = [s.name for s in call.symbols]
        included = await asyncio.to_thread(self._bars.any_filled, names, call.timeframe.name)
        return None if included else error

    async def _judged(self, failure: Failure) -> list[Failure]:
        """Split a refusal into what the plan excludes, and what it includes after all, which is an error of its series."""
        if not failure.refused:
            return [failure]
        names, timeframe = [symbol.name for symbol in self._request.market.symbols], failure.call.timeframe
        if timeframe not in self._reach:
            since = self._clock() - RECENT
            self._reach[timeframe] = await asyncio.to_thread(self._bars.first_answered, names, timeframe, since)
        wrong: dict[Symbol, set[date]] = {}
        for symbol, sessions in failure.sessions.items():
            wrong[symbol] = mistaken(
                sessions,
                self._reach[timeframe],
                has_bars=await asyncio.to_thread(self._bars.any_filled, [symbol.name], timeframe.name),
                refused_calls=self._policy.refused_calls[symbol],
                known=self._before.get((symbol.name, timeframe.name), {}),
            )
            source = self._sources[symbol, timeframe]
            if wrong[symbol] and not source.error:
                source.error = VendorUnavailable(
                    f"Polygon refused {timeframe} bars of {symbol} from days that its plan includes: try again later"
                )
        rest = {symbol: sessions - wrong[symbol] for symbol, sessions in failure.sessions.items()}
        return [replace(failure, sessions=wrong, refused=False), replace(failure, sessions=rest)]

    async def _fetch_range(self, call: RangeCall, unanswered: Mapping[Symbol, set[date]]) -> None:
        one_bar = call.timeframe.base is Base.DAY
        cutter = PageCutter(call.sessions, self._request.calendar.hours.zone, one_bar=one_bar)
        pages = self._vendor.pages(call.ticker, call.timeframe, call.start, call.end)
        try:
            async with aclosing(pages):
                async for page in pages:
                    answer = cutter.feed(page.bars, more=page.more, bad=page.bad)
                    await self._store(call, {call.symbol: answer})
                    unanswered[call.symbol].difference_update(answer.sessions)
        finally:
            self._sources[call.symbol, call.timeframe].dropped += cutter.dropped

    async def _fetch_grouped(self, call: GroupedCall, unanswered: Mapping[Symbol, set[date]]) -> None:
        zone = self._request.calendar.hours.zone
        day = await self._vendor.grouped_daily(self._request.market.kind.value, call.session)
        row_of = {ticker: row for row, ticker in enumerate(day.tickers)}
        spelled = {ticker.casefold(): ticker for ticker in day.tickers}
        answers: dict[Symbol, CompleteSessions] = {}
        for symbol in call.symbols:
            ticker = symbol.ticker_on(call.session)
            row = row_of.get(ticker)
            bars = Bars.empty() if row is None else day.bars.take(slice(row, row + 1))
            # The vendor stamps a grouped bar at the close; a daily bar is stamped at the start of its day.
            start = day_starts([call.session], zone)
            bars = replace(bars, timestamp=start[: len(bars)])
            reason = day.bad.get(ticker)
            if row is None and day.nameless:
                reason = reason or "the day has a row whose ticker cannot be read"
            if row is None and (other := spelled.get(ticker.casefold())):
                reason = reason or f"the day has {other} instead of {ticker}"
            bad = [BadBar(int(start[0]), reason)] if reason else []
            answers[symbol] = PageCutter(call.sessions, zone).feed(bars, more=False, bad=bad)
        await self._store(call, answers)
        for symbol in call.symbols:
            unanswered[symbol].clear()

    async def _read_file(self, call: GroupedCall, unanswered: Mapping[Symbol, set[date]]) -> VendorError | None:
        """Store what a flat file has, and compare what the REST API has given; return the error of its series.

        A session that differs is requested from the REST API again, whose bars stay.
        """
        assert self._reader is not None, "calls of files are planned with a reader"  # noqa: S101  # for mypy
        request, errors = self._request, list[VendorError | None]()
        has_api = POLYGON in request.market.sources
        try:
            async with self._reader.day(call, request) as day:
                given = await self._reader.of_the_api(call, request)
                for symbols in batched((s for s in call.symbols if s.name not in given), _TOGETHER):
                    answers: dict[Symbol, CompleteSessions] = {}
                    for symbol in symbols:
                        bars, bad = bars_of(day, symbol.ticker_on(call.session), request)
                        cutter = PageCutter(
                            call.sessions, request.calendar.hours.zone, one_bar=call.timeframe.base is Base.DAY
                        )
                        answers[symbol] = cutter.feed(bars, more=False, bad=bad)
                    await self._store(call, answers)
                    for symbol in symbols:
                        unanswered[symbol].clear()
                for symbol in (s for s in call.symbols if s.name in given):
                    bars, _ = bars_of(day, symbol.ticker_on(call.session), request)
                    if await self._differs(symbol, call, bars) and has_api:
                        errors.append(await self._attempt(RangeCall(symbol, call.timeframe, call.sessions, 1)))
                        await self._differs(symbol, call, bars)
                    unanswered[symbol].clear()
        except VendorError as error:
            if not has_api or request.refresh is Refresh.FILES:
                raise
            self._progress.waiting(f"{error}. The REST API is used instead.")
            for symbol in (s for s, sessions in unanswered.items() if sessions):
                errors.append(await self._attempt(RangeCall(symbol, call.timeframe, call.sessions, 1)))
        return next(filter(None, errors), None)

    async def _differs(self, symbol: Symbol, call: GroupedCall, bars: Bars) -> bool:
        assert self._reader is not None  # noqa: S101  # see above
        context = self._context(symbol, call.timeframe)
        stored = await asyncio.to_thread(self._bars.bars, symbol.name, call.timeframe, call.sessions, context)
        return await self._reader.compared(symbol, call, stored, bars)

    async def _store(self, call: ApiCall, answers: Mapping[Symbol, CompleteSessions]) -> None:
        """Store answers of one call in one transaction."""
        await self._record([*self._policy.reached(), *self._policy.entitled()])
        contexts = {
            symbol.name: (answer, replace(self._context(symbol, call.timeframe, answer.sessions), source=call.source))
            for symbol, answer in answers.items()
        }
        written = await asyncio.to_thread(self._bars.write_several, call.timeframe, contexts)
        for symbol, answer in answers.items():
            self._sources[symbol, call.timeframe].written += written[symbol.name]
            self._sources[symbol, call.timeframe].rejected += answer.rejected
            self._progress.answered(call, len(answer.sessions), written[symbol.name])

    async def _record(self, failures: Sequence[Failure]) -> None:
        self._recording += failures
        for failure in failures:
            timeframe = failure.call.timeframe
            for symbol, sessions in failure.sessions.items():
                context = self._context(symbol, timeframe)
                await asyncio.to_thread(
                    self._bars.write_failures,
                    symbol.name,
                    timeframe,
                    sorted(sessions),
                    context,
                    refused=failure.refused,
                )
            self._recording.remove(failure)

    def _context(self, symbol: Symbol, timeframe: Timeframe, sessions: Sequence[date] = ()) -> WriteContext:
        request = self._request
        return WriteContext(
            zone=request.calendar.hours.zone,
            attempted_at=self._clock(),
            derived=made_from(timeframe, request.market.timeframes),
            finished=request.finished(symbol, sessions),
            first_pause=request.retries.first_pause,
            run_id=self._run_id,
        )
