"""Ask fallbacks for the sessions that a market's vendor does not have, after all of the vendor's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import date
from types import MappingProxyType

from backfill_assets.adapters.other_source import RETRY, KnownSplits, OtherClient, open_source
from backfill_assets.adapters.store.bars import BarStore, WriteContext, Written
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.sources import FallbackAnswers, SourceStore
from backfill_assets.adapters.transport import RetryPolicy
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.errors import (
    KeyRefused,
    NotFound,
    RateLimited,
    SplitsUnknown,
    VendorError,
    VendorUnavailable,
)
from backfill_assets.domain.fallbacks import FallbackAnswer, lacks, next_fallback, unanswered
from backfill_assets.domain.request_plan import RangeCall, plan_series
from backfill_assets.domain.sources import Fallback, fallbacks
from backfill_assets.domain.timeframes import Base, Timeframe, sources
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, needed, recorded
from backfill_assets.pipelines.progress import Progress

type OpenFallback = Callable[[Fallback], AbstractAsyncContextManager[OtherClient]]

LEFT_ALONE = (KeyRefused, RateLimited, VendorUnavailable)
"""Errors after which a fallback is not asked again in a run."""


class Lacking:
    """The sessions of a request that its vendor lacks, those of them that are `due`, and what fallbacks have answered."""

    def __init__(self, store: BarStore, request: BackfillRequest) -> None:
        self._store, self._request = store, request
        self.order = fallbacks(request.market.sources)
        self.sessions: dict[tuple[Symbol, Timeframe], list[date]] = {}
        self.due: dict[tuple[Symbol, Timeframe], list[date]] = {}
        self.asked: FallbackAnswers = {}
        self._filled_by: dict[tuple[str, str, date], str | None] = {}

    def find(self, keys: Collection[tuple[Symbol, Timeframe]], *, unreachable: bool = False) -> None:
        """Find the sessions of source timeframes that the vendor lacks; if it is `unreachable`, also those not answered."""
        request, days = self._request, self._request.weeks
        if not days or not keys or not self.order:
            return
        answers, hours = recorded(self._store, request), request.calendar.hours
        table = SourceStore.beside(self._store)
        self.asked = table.fallback_answers(request.names, {timeframe for _, timeframe in keys}, days)
        for symbol, timeframe in keys:
            known = answers.get((symbol.name, timeframe.name), {})
            for session in sorted(needed(request, symbol, timeframe, request.wanted[symbol])):
                if hours.day_ends_at(session) > request.now:
                    continue  # a fallback's daily bar has not ended
                answer = known.get(session)
                late = unreachable and unanswered(hours.finished_at(session), answer, request.retries, request.now)
                if late or lacks(answer, request.retries):
                    self.sessions.setdefault((symbol, timeframe), []).append(session)
                    self._filled_by[symbol.name, timeframe.name, session] = answer.filled_by if answer else None

    def calls(self, at: int) -> list[RangeCall]:
        """Plan the ranges of the fallback of an index: those of sessions whose turn it is."""
        request, calls = self._request, list[RangeCall]()
        tried = {fallback.name for fallback in self.order[:at]}
        for (symbol, timeframe), sessions in self.sessions.items():
            due = self.due[symbol, timeframe] = list[date]()
            for session in sessions:
                key = (symbol.name, timeframe.name, session)
                asked = self.asked.get(key, {})
                chosen = next_fallback(
                    self.order, timeframe, session, asked, self._filled_by[key], request.now, request.retry, tried
                )
                if chosen == self.order[at]:
                    due.append(session)
            ranges = plan_series(symbol, timeframe, due, request.calendar)
            calls += [replace(call, source=self.order[at].name) for call in ranges]
        return calls


class FallbackFetch:
    """The calls of fallbacks for sessions that the vendor lacks."""

    def __init__(
        self,
        store: BarStore,
        request: BackfillRequest,
        opened: OpenFallback,
        context: Callable[[Symbol, Timeframe, Sequence[date]], WriteContext],
        progress: Progress,
    ) -> None:
        """`context` gives what the vendor's answers are stored with."""
        self._store, self._request, self._opened = store, request, opened
        self._context, self._progress = context, progress
        self.lacking = Lacking(store, request)

    async def run(self) -> dict[tuple[Symbol, Timeframe], Written]:
        """Request what the vendor lacks from one fallback after another; return what was written of each filled series.

        A fallback's failure is recorded and fails nothing else.
        """
        filled: dict[tuple[Symbol, Timeframe], Written] = {}
        for at, fallback in enumerate(self.lacking.order):
            if not (calls := self.lacking.calls(at)):
                continue
            ranges = f"{len(calls):,} range{'' if len(calls) == 1 else 's'}"
            self._progress.waiting(f"Requesting {ranges} from {fallback.name}, which the vendor does not have.")
            try:
                async with self._opened(fallback) as client:
                    for call in calls:
                        key, written = (call.symbol, call.timeframe), await self._make(call, fallback, client)
                        if written.inserted:
                            filled[key] = filled.get(key, Written()) + written
            except LEFT_ALONE as error:
                self._progress.waiting(f"{error}. {fallback.name} is asked again later.")
        return filled

    async def _make(self, call: RangeCall, fallback: Fallback, client: OtherClient) -> Written:
        """Request a range and store what it has of the sessions that are due."""
        symbol, timeframe = call.symbol, call.timeframe
        sessions = [s for s in self.lacking.due[symbol, timeframe] if call.start <= s <= call.end]
        try:
            answer = await client.bars(symbol, timeframe, call.start, call.end, now=self._request.now)
        except VendorError as error:
            # Its own word that it has no such symbol is an answer without bars. Without known splits it was not asked.
            if not isinstance(error, SplitsUnknown):
                await self._record(call, fallback, sessions, str(error), failed=not isinstance(error, NotFound))
            if isinstance(error, LEFT_ALONE):
                raise
            self._progress.waiting(f"{fallback.name}: {error}.")
            return Written()
        cutter = PageCutter(tuple(sessions), self._request.calendar.hours.zone, one_bar=timeframe.base is Base.DAY)
        complete = cutter.feed(answer.bars, more=False)
        context = replace(self._context(symbol, timeframe, sessions), source=fallback.name)
        written = await asyncio.to_thread(self._store.fill, symbol.name, timeframe, complete, context)
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in answer.dropped.items())
        if left_out:
            self._progress.waiting(f"{fallback.name}, {symbol} {timeframe}: left out {left_out}.")
        bars = {count.session: count.bars for count in complete.counts}
        await self._record(call, fallback, sessions, left_out and f"left out: {left_out}", bars)
        return written

    async def _record(
        self,
        call: RangeCall,
        fallback: Fallback,
        sessions: Sequence[date],
        detail: str,
        bars: Mapping[date, int] = MappingProxyType({}),
        *,
        failed: bool = False,
    ) -> None:
        now, retries, answers = self._request.now, self._request.retries, {}
        for session in sessions:
            asked = self.lacking.asked.setdefault((call.symbol.name, call.timeframe.name, session), {})
            known = asked.get(fallback.name, FallbackAnswer())
            if failed:
                asked[fallback.name] = known.failed(now, detail, retries)
            else:
                asked[fallback.name] = known.answered(bars.get(session, 0), now, detail, retries)
            answers[session] = asked[fallback.name]
        record = SourceStore.beside(self._store).record_fallback
        await asyncio.to_thread(record, call.symbol.name, call.timeframe, fallback.name, answers)


def opener(store: BarStore, progress: Progress, retry: RetryPolicy = RETRY) -> OpenFallback:
    """Return what opens the clients of other vendors, which know the splits that are stored."""
    actions = CorporateActionStore.beside(store)

    def splits_of(symbol: Symbol) -> KnownSplits | None:
        lookup = actions.lookups([symbol.name]).get(symbol.name)
        if lookup is None:
            return None
        stored = (each.action for each in actions.read([symbol.name]) if each.withdrawn_at is None)
        splits = (
            SplitRatio(each.ex_date, each.ratio_from, each.ratio_to)
            for each in stored
            if each.ratio_from and each.ratio_to
        )
        return KnownSplits(lookup.since, tuple(splits))

    return lambda fallback: open_source(fallback.name, store.url, splits_of, progress.waiting, retry)


def fallback_calls(store: BarStore, request: BackfillRequest) -> list[RangeCall]:
    """Return the ranges that are requested from fallbacks next, after the vendor's calls."""
    found = Lacking(store, request)
    found.find([(symbol, timeframe) for symbol in request.wanted for timeframe in sources(request.timeframes)])
    return [call for at in range(len(found.order)) for call in found.calls(at)]
