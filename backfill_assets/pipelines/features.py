"""Compute features: whatever is stale of some series, one window at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from threading import Event
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.adapters.store.feature_quality import FeatureQuality, FeatureSession
from backfill_assets.adapters.store.features import FeatureSeries, FeatureStore, UnusableBars, Window
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.adjustments import weekly_bars
from backfill_assets.domain.bars import Bars, Float
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.errors import first_error
from backfill_assets.domain.features import COLUMNS, compute_range
from backfill_assets.domain.runs import RunStart, SeriesRecord
from backfill_assets.domain.sessions import HOURS, day_starts
from backfill_assets.domain.timeframes import WEEK_1, Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets.pipelines.progress import SILENT, FeatureProgress


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """The features to bring up to date: of each symbol the days (not empty, ascending), in some timeframes.

    `full`: compute them even if they are up to date.
    """

    market: Market
    wanted: Mapping[Symbol, tuple[date, ...]]
    timeframes: tuple[Timeframe, ...]
    full: bool = False

    @property
    def days(self) -> DayRange:
        """From the first wanted day of any symbol to the last: days in between that are up to date cost nothing."""
        return DayRange(min(d[0] for d in self.wanted.values()), max(d[-1] for d in self.wanted.values()))


@dataclass(frozen=True, slots=True)
class Computed:
    """How many rows were written for one series."""

    symbol: Symbol
    timeframe: Timeframe
    rows: int


@dataclass(frozen=True, slots=True)
class Computation:
    """The series that were computed, and one sentence by symbol and timeframe name for each that could not be."""

    done: Sequence[Computed]
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def failure(self) -> UnusableBars | None:
        """The series that could not be computed as one error, or None."""
        if not self.failed:
            return None
        sentences = list(self.failed.values())
        more = f"; and {len(sentences) - _MOST_NAMED} more series" if len(sentences) > _MOST_NAMED else ""
        return UnusableBars("; ".join(sentences[:_MOST_NAMED]) + more)


_MOST_NAMED = 5


async def compute_recorded(
    start: RunStart,
    request: FeatureRequest,
    store: FeatureStore,
    clock: Callable[[], datetime],
    *,
    at_once: int,
    progress: FeatureProgress,
) -> tuple[Computation, list[FeatureSession]]:
    """Compute features as a recorded run; return also the wanted sessions that have bars. Raises StoreError."""
    with recorded_run(store, start, clock) as record:
        before = await _sessions(request, store)
        computation = await compute_features(request, store, at_once=at_once, progress=progress)
        after = await _sessions(request, store)
        record.series = tuple(_records(before, after, computation))
        record.error = str(computation.failure) if computation.failure else None
    return computation, after


async def compute_features(
    request: FeatureRequest, store: FeatureStore, *, at_once: int = 5, progress: FeatureProgress = SILENT
) -> Computation:
    """Bring features up to date, `at_once` symbols at a time.

    A series with unusable bars does not stop the others. Raises StoreError if the database fails.
    """
    gate, stop = asyncio.Semaphore(at_once), Event()
    failed: dict[tuple[str, str], str] = {}

    async def of(symbol: Symbol) -> list[Computed]:
        done = []
        async with gate:
            for timeframe in request.timeframes:
                try:
                    rows = await asyncio.to_thread(_compute_series, request, store, symbol, timeframe, stop)
                except UnusableBars as error:
                    failed[symbol.name, timeframe.name] = str(error)
                    continue
                done.append(Computed(symbol, timeframe, rows))
                progress.computed(symbol, timeframe, rows)
        return done

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(of(symbol)) for symbol in request.wanted]
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        stop.set()  # a thread cannot be cancelled: it ends after its window
    return Computation([computed for task in running for computed in task.result()], failed)


def _compute_series(
    request: FeatureRequest, store: FeatureStore, symbol: Symbol, timeframe: Timeframe, stop: Event
) -> int:
    series = FeatureSeries(symbol.name, timeframe, HOURS[request.market.kind].zone)
    start, end = bounds(request.days, timeframe, series.zone)
    if request.full:
        store.mark(series, start, end)
    written = 0
    while not stop.is_set() and (rows := compute_window(store, series, start, end)) is not None:
        written += rows
    return written


def compute_window(store: FeatureStore, series: FeatureSeries, start: datetime, end: datetime) -> int | None:
    """Compute the first stale rows between two instants (end excluded), outside any transaction.

    Return how many rows were written: none if another process wrote them first. None if nothing is stale there. Raises
    UnusableBars.
    """
    window = store.window(series, start, end)
    if window is None:
        return None
    values = _values(window, series) if window.rows else np.empty((0, len(COLUMNS)))
    return window.rows if store.write(series, window, values) else 0


def _values(window: Window, series: FeatureSeries) -> Float:
    bars = window.bars if window.days is None else _adjusted_weeks(window, window.days, series)
    return compute_range(bars, series.timeframe, series.zone, window.splits, window.first)


def _adjusted_weeks(window: Window, days: Bars, series: FeatureSeries) -> Bars:
    """Return the stored weeks, each in the units of its last day. A week whose days are not stored is left unchanged."""
    weeks = weekly_bars(days, window.splits, series.zone)
    stamps = window.bars.timestamp
    both, at, of = np.intersect1d(stamps, weeks.timestamp, assume_unique=True, return_indices=True)
    if not len(both):
        return window.bars
    rows = np.arange(len(stamps))
    rows[at] = len(stamps) + of
    return Bars.concat(window.bars, weeks).take(rows)


def bounds(days: DayRange, timeframe: Timeframe, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the instants between which bars of the days begin, the end excluded; a week begins on its Sunday."""
    first: date = week_start(days.start) if timeframe == WEEK_1 else days.start
    start, end = day_starts([first, days.end + ONE_DAY], zone)
    return instant(start), instant(end)


async def _sessions(request: FeatureRequest, store: FeatureStore) -> list[FeatureSession]:
    names = {symbol.name: frozenset(days) for symbol, days in request.wanted.items()}
    quality = FeatureQuality.beside(store)
    found = await asyncio.to_thread(quality.sessions, names, request.timeframes, request.days)
    return [session for session in found if session.session in names[session.symbol]]


def _records(
    before: Iterable[FeatureSession], after: Iterable[FeatureSession], computation: Computation
) -> Iterable[SeriesRecord]:
    """Yield one record for each series that has bars or was computed."""
    then, now = _count(before), _count(after)
    written = {(c.symbol.name, c.timeframe.name): c.rows for c in computation.done}
    for key in sorted({*now, *written, *computation.failed}):
        sessions, missing = now.get(key, (0, 0))
        yield SeriesRecord(
            *key,
            sessions=sessions,
            missing_before=then.get(key, (0, 0))[1],
            missing_after=missing,
            bars_written=0,
            bars_changed=0,
            bars_unchanged=0,
            error=computation.failed.get(key),
            features_written=written.get(key, 0),
        )


def _count(sessions: Iterable[FeatureSession]) -> dict[tuple[str, str], tuple[int, int]]:
    """Count by series all sessions and those that miss a row."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for session in sessions:
        key = (session.symbol, session.timeframe)
        total, missing = found.get(key, (0, 0))
        found[key] = (total + 1, missing + (not session.complete))
    return found
