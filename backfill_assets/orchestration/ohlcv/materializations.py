"""What Dagster is told of a market's bars, while they are filled and at the end."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from types import TracebackType
from typing import Self

import dagster as dg

from backfill_assets.adapters.store.bars import BarStore, Written
from backfill_assets.domain.answers import Answers
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.orchestration.materializations import Cell, bars_cell, mark_materialized
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.backfill_request import BackfillRequest, recorded
from backfill_assets.pipelines.ohlcv import SettledSeries
from backfill_assets.pipelines.progress import Progress

type Cells = dict[dg.MultiPartitionKey, Cell]

ENOUGH = 500
"""Partitions at a time: each time costs a few statements an asset, about what a dozen partitions do."""


class Materializations:
    """Marks materialized exactly the partitions of a run that have bars: a gap stays missing.

    Listens to the fill, and tells of series of which nothing is left to ask for, some hundred partitions at a time, while the
    next requests wait for their turn; all others are told of at the end. An asynchronous context manager around the fill.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, store: BarStore, order: BackfillRequest, listener: Progress
    ) -> None:
        self._context = context
        self._store = store
        self._order = order
        self._listener = listener
        self._told: dict[Timeframe, set[dg.MultiPartitionKey]] = defaultdict(set)
        self._settled: list[tuple[Symbol, Timeframe]] = []
        self._made = Counter(timeframe.source for timeframe in order.timeframes)
        self._news = asyncio.Event()
        self._over = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._news.set()
        if error is not None:
            self._task.cancel()
        await asyncio.wait([self._task])
        if error is None:
            self._task.result()
        elif not self._task.cancelled():
            self._task.exception()  # seen: the first error is the one to tell

    def planned(self, market: Market, requests: Sequence[ApiCall]) -> None:
        """The listener is told."""
        self._listener.planned(market, requests)

    def answered(self, request: ApiCall, sessions: int, written: Written) -> None:
        """The listener is told."""
        self._listener.answered(request, sessions, written)

    def ended(self, request: ApiCall, error: Exception | None) -> None:
        """The listener is told."""
        self._listener.ended(request, error)

    def settled(self, symbol: Symbol, source: Timeframe) -> None:
        """The series, and what is derived from it, can be told of."""
        self._settled.append((symbol, source))
        self._news.set()
        self._listener.settled(symbol, source)

    async def _follow(self) -> None:
        while not self._over:
            await self._news.wait()
            self._news.clear()
            if sum(len(self._order.wanted[symbol]) * self._made[source] for symbol, source in self._settled) >= ENOUGH:
                settled, self._settled = self._settled, []
                await asyncio.to_thread(self._tell_of, settled)

    def _tell_of(self, settled: Iterable[tuple[Symbol, Timeframe]]) -> None:
        symbols: dict[Timeframe, list[Symbol]] = defaultdict(list)
        for symbol, source in settled:
            symbols[source].append(symbol)
        for source, of_source in symbols.items():
            order = replace(self._order, wanted={s: self._order.wanted[s] for s in of_source})
            answers = recorded(self._store, order)
            for timeframe in (t for t in order.timeframes if t.source == source):
                cells: Cells = {}
                for symbol, sessions in order.wanted.items():
                    cells |= _cells(symbol, sessions, answers.get((symbol.name, timeframe.name), {}))
                self._tell(timeframe, cells)

    async def rest(self, series: Sequence[SettledSeries]) -> None:
        """The fill is over: tell of what was not told of, timeframe by timeframe, and sum up."""
        self._over = True
        self._news.set()
        await self._task
        await asyncio.to_thread(self._tell_the_rest, series)

    def _tell_the_rest(self, series: Sequence[SettledSeries]) -> None:
        for timeframe in self._order.timeframes:
            of_timeframe = [s for s in series if s.timeframe == timeframe]
            if not of_timeframe:
                continue
            cells: Cells = {}
            for one in of_timeframe:
                cells |= _cells(one.symbol, one.wanted, one.answers)
            self._tell(timeframe, cells)
            self._context.log.info(_sentence(timeframe, of_timeframe, len(cells)))

    def _tell(self, timeframe: Timeframe, cells: Cells) -> None:
        told = self._told[timeframe]
        new = {key: cell for key, cell in cells.items() if key not in told}
        mark_materialized(self._context, ohlcv_key(self._order.market, timeframe), new)
        told.update(new)


def _cells(symbol: Symbol, wanted: Iterable[date], answers: Answers) -> Cells:
    """The partitions of a series that have bars."""
    found = (answers[session] for session in wanted if session in answers)
    return {partition_key(a.session, symbol): bars_cell(a.bars, a.first, a.last) for a in found if a.bars}


def _sentence(timeframe: Timeframe, series: Sequence[SettledSeries], filled: int) -> str:
    written = sum((s.written for s in series), Written())
    missing = sum(len(s.missing) for s in series)
    return (
        f"{timeframe}: {filled} partitions have bars, {missing} have none; "
        f"{written.inserted} bars added, {written.changed} changed, {written.unchanged} unchanged."
    )
