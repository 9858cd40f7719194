"""The record of a run, written however the run ends, and its outcome for the command that started it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backfill_assets.adapters.store.bars import Written
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.features import UnusableBars
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.answers import missing_sessions
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable, NotEntitled, SettingMistake
from backfill_assets.domain.gaps import Gap
from backfill_assets.domain.request_plan import ApiCall, pages_of
from backfill_assets.domain.runs import (
    RejectedRecord,
    Restatement,
    RunEnd,
    RunStart,
    RunStatus,
    SeriesRecord,
    gap_outcomes,
)
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of
from backfill_assets.pipelines.ohlcv import SeriesFailed, SettledSeries
from backfill_assets.pipelines.progress import Progress

HEARTBEAT_SECONDS = 20.0

MOST_REJECTED = 100
"""Bars of a series named in a run's record; all of them are counted."""


class Traffic(Protocol):
    """How many requests were sent to the vendor."""

    requests: int
    retries: int
    rate_limited: int


@dataclass(slots=True)
class RunRecord:
    """What is recorded of a run when it ends; all of it is optional. `error` makes it a failed run."""

    traffic: Traffic | None = None
    planned_requests: int | None = None
    error: str | None = None
    series: Sequence[SeriesRecord] = ()
    gaps_before: Sequence[Gap] = ()
    gaps_after: Sequence[Gap] = ()
    restatements: Sequence[Restatement] = ()
    rejected: Sequence[RejectedRecord] = ()

    def fetched(self, request: BackfillRequest, series: Sequence[SettledSeries]) -> None:
        """Record a fetch: its request and its settled series."""
        keyed = [((s.symbol.name, s.timeframe.name), s) for s in series]
        self.gaps_before = gaps_of(request, {key: s.before for key, s in keyed})
        self.gaps_after = gaps_of(request, {key: s.answers for key, s in keyed})
        self.series = [_series_record(s) for s in series]
        self.restatements = [
            Restatement(s.symbol.name, s.timeframe.name, r.first, r.last, r.bars, r.removed)
            for s in series
            for r in s.written.restated
        ]
        self.rejected = [
            RejectedRecord(s.symbol.name, s.timeframe.name, bar) for s in series for bar in s.rejected[:MOST_REJECTED]
        ]


@contextmanager
def recorded_run(store: Store, start: RunStart, clock: Callable[[], datetime]) -> Iterator[RunRecord]:
    """Record the start of a run, and its end when the context is left.

    Errors of this project are recorded as their sentence, others as the name of their type, and interruptions as a
    cancellation. If the run failed because the database is unavailable, and it still is, the end is not recorded.
    """
    runs, record = RunStore.beside(store), RunRecord()
    runs.start(start)
    status, error, unavailable = RunStatus.SUCCEEDED, None, False
    try:
        with _heartbeat(runs, start, record):
            yield record
    except BackfillError as failure:
        status, error = RunStatus.FAILED, str(failure)
        unavailable = isinstance(failure, DatabaseUnavailable) and not runs.is_reachable()
        raise
    except Exception as failure:
        status, error = RunStatus.FAILED, type(failure).__name__
        raise
    except BaseException:
        status = RunStatus.CANCELED
        raise
    finally:
        if record.error:
            status, error = RunStatus.FAILED, record.error
        if not unavailable:
            runs.finish(_end(record, start, clock(), status, error))


@contextmanager
def _heartbeat(runs: RunStore, start: RunStart, record: RunRecord) -> Iterator[None]:
    """Record every HEARTBEAT_SECONDS that this process is alive, and how far it is."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with suppress(DatabaseUnavailable):
                runs.beat(start, record.traffic.requests if record.traffic else 0, record.planned_requests)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _end(record: RunRecord, run: RunStart, at: datetime, status: RunStatus, error: str | None) -> RunEnd:
    traffic = record.traffic
    return RunEnd(
        run=run,
        finished_at=at,
        status=status,
        error=error,
        requests=traffic.requests if traffic else 0,
        retried=traffic.retries if traffic else 0,
        rate_limited=traffic.rate_limited if traffic else 0,
        planned_requests=record.planned_requests,
        gaps_before=len(record.gaps_before),
        gaps_after=len(record.gaps_after),
        series=tuple(record.series),
        gaps=gap_outcomes(record.gaps_before, record.gaps_after),
        restatements=tuple(record.restatements),
        rejected=tuple(record.rejected),
    )


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """Reports the progress of a run to another one, and keeps in the run's record how many requests it plans."""

    record: RunRecord
    progress: Progress

    def planned(self, market: Market, calls: Sequence[ApiCall]) -> None:
        """Keep the number of requests."""
        self.record.planned_requests = pages_of(calls)
        self.progress.planned(market, calls)

    def answered(self, call: ApiCall, sessions: int, written: Written) -> None:
        """Report it."""
        self.progress.answered(call, sessions, written)

    def ended(self, call: ApiCall, error: Exception | None) -> None:
        """Report it."""
        self.progress.ended(call, error)

    def waiting(self, sentence: str) -> None:
        """Report it."""
        self.progress.waiting(sentence)


def _series_record(series: SettledSeries) -> SeriesRecord:
    return SeriesRecord(
        symbol=series.symbol.name,
        timeframe=series.timeframe.name,
        sessions=len(series.wanted),
        missing_before=len(missing_sessions(series.wanted, series.before)),
        missing_after=len(series.missing),
        bars_written=series.written.inserted,
        bars_changed=series.written.changed,
        bars_unchanged=series.written.unchanged,
        error=str(series.error) if series.error else None,
        bars_rejected=len(series.rejected),
        bars_removed=series.written.removed,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run; if it failed, `error` is one sentence and `kind` the name of its type."""

    run_id: str
    error: str | None = None
    kind: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether the run stopped before all of its series were tried."""
        return not self.succeeded and self.kind not in {SeriesFailed.__name__, UnusableBars.__name__}

    @property
    def concerns_every_market(self) -> bool:
        """Whether the next market's run would fail for the same reason."""
        return self.ended_early and self.kind != NotEntitled.__name__

    @property
    def succeeded(self) -> bool:
        """Whether the run finished without an error."""
        return self.error is None

    @property
    def exit_code(self) -> int:
        """The exit code of a command for this run alone: 0, 1, or 2 if it failed for a wrong setting."""
        if self.succeeded:
            return 0
        return SettingMistake.exit_code if self.kind == SettingMistake.__name__ else BackfillError.exit_code
