"""Computing features: what is stale of some series, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from threading import Event
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.adapters.store.features import FeatureSeries, FeatureStore, UnusableBars, Window
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.adjustments import SplitRatio, weekly_bars
from backfill_assets.domain.bars import Bars, Float
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.errors import first_error
from backfill_assets.domain.features import compute_range
from backfill_assets.domain.sessions import HOURS, day_starts
from backfill_assets.domain.timeframes import WEEK_1, Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.progress import FeatureProgress, Silent


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """Whose features shall be up to date, over which days (of the market's zone); `full`: computed again though they are."""

    market: Market
    symbols: tuple[Symbol, ...]
    timeframes: tuple[Timeframe, ...]
    days: DayRange
    full: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """What was done for one series."""

    symbol: Symbol
    timeframe: Timeframe
    rows: int


@dataclass(frozen=True, slots=True)
class Computation:
    """What was done, series by series, and by symbol and timeframe why others could not be computed, in a sentence each."""

    done: Sequence[Computed]
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def failure(self) -> UnusableBars | None:
        """All that could not be computed as one error; None where everything was."""
        if not self.failed:
            return None
        sentences = list(self.failed.values())
        more = f"; and {len(sentences) - _MOST_NAMED} more series" if len(sentences) > _MOST_NAMED else ""
        return UnusableBars("; ".join(sentences[:_MOST_NAMED]) + more)


_MOST_NAMED = 5

SILENT = Silent()


async def compute_features(
    order: FeatureRequest, store: FeatureStore, *, at_once: int = 5, progress: FeatureProgress = SILENT
) -> Computation:
    """Bring the features of an order up to date, `at_once` symbols at a time.

    A series whose bars cannot be used stops no other. Raises StoreError where the database fails.
    """
    gate, stop = asyncio.Semaphore(at_once), Event()
    failed: dict[tuple[str, str], str] = {}

    async def of(symbol: Symbol) -> list[Computed]:
        done = []
        async with gate:
            for timeframe in order.timeframes:
                try:
                    rows = await asyncio.to_thread(_fill, order, store, symbol, timeframe, stop)
                except UnusableBars as error:
                    failed[symbol.name, timeframe.name] = str(error)
                    continue
                done.append(Computed(symbol, timeframe, rows))
                progress.computed(symbol, timeframe, rows)
        return done

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(of(symbol)) for symbol in order.symbols]
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        stop.set()  # a thread cannot be cancelled: it ends after its piece
    return Computation([computed for task in running for computed in task.result()], failed)


def _fill(order: FeatureRequest, store: FeatureStore, symbol: Symbol, timeframe: Timeframe, stop: Event) -> int:
    series = FeatureSeries(symbol.name, timeframe, HOURS[order.market.kind].zone)
    start, end = bounds(order.days, timeframe, series.zone)
    if order.full:
        store.mark(series, start, end)
    work = worker(series)
    written = 0
    while not stop.is_set() and (rows := store.compute_some(series, start, end, work)) is not None:
        written += rows
    return written


def bounds(days: DayRange, timeframe: Timeframe, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants between which bars of the days (of the zone) begin, the end excluded; a week begins on its Sunday."""
    first: date = week_start(days.start) if timeframe == WEEK_1 else days.start
    start, end = day_starts([first, days.end + ONE_DAY], zone)
    return instant(start), instant(end)


def worker(series: FeatureSeries) -> Callable[[Window], Float]:
    """How the features of a window of the series are computed."""

    def work(window: Window) -> Float:
        bars = window.bars
        if series.timeframe == WEEK_1 and window.splits:
            bars = _weeks(bars, window.daily(), window.splits, series)
        return compute_range(bars, series.timeframe, series.zone, window.splits, window.first)

    return work


def _weeks(stored: Bars, daily: Bars, splits: Sequence[SplitRatio], series: FeatureSeries) -> Bars:
    """The stored weeks, each in the units of its last day. A week whose days are not stored stays as it is."""
    made = weekly_bars(daily, splits, series.zone)
    both, at, of = np.intersect1d(stored.timestamp, made.timestamp, assume_unique=True, return_indices=True)
    if not len(both):
        return stored
    order = np.arange(len(stored))
    order[at] = len(stored) + of
    return Bars.concat(stored, made).take(order)
