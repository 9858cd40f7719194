"""A run over a market's features, with the record that it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from backfill_assets.adapters.store.feature_quality import FeatureQuality, FeatureSession
from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.runs import RunStart, SeriesRecord
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets.pipelines.features import Computation, FeatureRequest, compute_features
from backfill_assets.pipelines.progress import FeatureProgress


@dataclass(frozen=True, slots=True)
class FeatureRun:
    """Features that shall be up to date: of each symbol the days (not empty, ascending), and in which timeframes.

    `full`: computed again though they are; `at_once`: symbols that are worked on at a time.
    """

    market: Market
    wanted: Mapping[Symbol, tuple[date, ...]]
    timeframes: tuple[Timeframe, ...]
    full: bool = False
    at_once: int = 5

    @property
    def order(self) -> FeatureRequest:
        """The whole rectangle around what is wanted: features of a day in between cost nothing that is stale."""
        days = DayRange(min(d[0] for d in self.wanted.values()), max(d[-1] for d in self.wanted.values()))
        return FeatureRequest(self.market, tuple(self.wanted), self.timeframes, days, full=self.full)


@dataclass(frozen=True, slots=True)
class FilledFeatures:
    """What was computed, and how the wanted sessions stand that have bars."""

    computation: Computation
    sessions: Sequence[FeatureSession]


async def recorded_features(
    start: RunStart, run: FeatureRun, store: FeatureStore, clock: Callable[[], datetime], progress: FeatureProgress
) -> FilledFeatures:
    """Compute as a run of its own. Raises StoreError but UnusableBars; the run is recorded however it ends."""
    with recorded_run(store, start, clock) as notes:
        before = await _sessions(run, store)
        computation = await compute_features(run.order, store, at_once=run.at_once, progress=progress)
        after = await _sessions(run, store)
        notes.computed(_records(before, after, computation))
        notes.error = str(computation.failure) if computation.failure else None
    return FilledFeatures(computation, after)


async def _sessions(run: FeatureRun, store: FeatureStore) -> list[FeatureSession]:
    quality, order = FeatureQuality.beside(store), run.order
    names = {symbol.name: frozenset(days) for symbol, days in run.wanted.items()}
    found = await asyncio.to_thread(quality.sessions, names, order.timeframes, order.days)
    return [session for session in found if session.session in names[session.symbol]]


def _records(
    before: Iterable[FeatureSession], after: Iterable[FeatureSession], computation: Computation
) -> Iterable[SeriesRecord]:
    """One record for each series that has bars, or that was computed."""
    lacked, lacking = _lacking(before), _lacking(after)
    written = {(c.symbol.name, c.timeframe.name): c.rows for c in computation.done}
    for key in sorted({*lacking, *written, *computation.failed}):
        sessions, missing = lacking.get(key, (0, 0))
        yield SeriesRecord(
            *key,
            sessions=sessions,
            missing_before=lacked.get(key, (0, 0))[1],
            missing_after=missing,
            bars_written=0,
            bars_changed=0,
            bars_unchanged=0,
            error=computation.failed.get(key),
            features_written=written.get(key, 0),
        )


def _lacking(sessions: Iterable[FeatureSession]) -> dict[tuple[str, str], tuple[int, int]]:
    """By series: how many sessions, and how many of them lack a row."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for session in sessions:
        key = (session.symbol, session.timeframe)
        every, lacking = found.get(key, (0, 0))
        found[key] = (every + 1, lacking + (not session.whole))
    return found
