"""The record that a run leaves, written while it goes on and however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.domain.errors import BackfillError, DatabaseUnavailable
from backfill_assets.domain.gaps import Gap
from backfill_assets.domain.runs import Restatement, RunEnd, RunStart, RunStatus, SeriesRecord, gap_outcomes
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of
from backfill_assets.pipelines.ohlcv import SettledSeries


class Counted(Protocol):
    """How much was asked of the vendor."""

    requests: int
    retries: int
    rate_limited: int


class Notes:
    """What a run has to tell so far; nothing of it is needed."""

    def __init__(self) -> None:
        self.traffic: Counted | None = None
        self.error: str | None = None
        self._series: tuple[SeriesRecord, ...] = ()
        self._before: list[Gap] = []
        self._after: list[Gap] = []
        self._restatements: tuple[Restatement, ...] = ()

    def filled(self, order: BackfillRequest, series: Sequence[SettledSeries]) -> None:
        """What a fill was asked for, and how its series stand."""
        keyed = [((s.symbol.name, s.timeframe.name), s) for s in series]
        self._before = gaps_of(order, {key: s.before for key, s in keyed})
        self._after = gaps_of(order, {key: s.answers for key, s in keyed})
        self._series = tuple(_record(s) for s in series)
        self._restatements = tuple(
            Restatement(s.symbol.name, s.timeframe.name, r.first, r.last, r.bars)
            for s in series
            for r in s.written.restated
        )

    def computed(self, series: Iterable[SeriesRecord]) -> None:
        """What was computed of each series."""
        self._series = tuple(series)

    def end(self, run: RunStart, at: datetime, status: RunStatus, error: str | None) -> RunEnd:
        """Everything, as of the run's end."""
        counted = self.traffic
        return RunEnd(
            run=run,
            finished_at=at,
            status=status,
            error=error,
            requests=counted.requests if counted else 0,
            retried=counted.retries if counted else 0,
            rate_limited=counted.rate_limited if counted else 0,
            gaps_before=len(self._before),
            gaps_after=len(self._after),
            series=self._series,
            gaps=gap_outcomes(self._before, self._after),
            restatements=self._restatements,
        )


@contextmanager
def recorded_run(store: Store, start: RunStart, clock: Callable[[], datetime]) -> Iterator[Notes]:
    """Have a run recorded: that it began, and however the context is left, what it has to tell.

    An error of the platform's own is told by its sentence, any other by its type; an interruption is a cancellation. A
    database that the run has waited for in vain, and that is still away, is not waited for once more: nothing is told then.
    """
    runs, notes = RunStore.beside(store), Notes()
    runs.start(start)
    status, error, away = RunStatus.SUCCEEDED, None, False
    try:
        yield notes
    except BackfillError as failure:
        status, error = RunStatus.FAILED, str(failure)
        away = isinstance(failure, DatabaseUnavailable) and not runs.is_reachable()
        raise
    except Exception as failure:
        status, error = RunStatus.FAILED, type(failure).__name__
        raise
    except BaseException:
        status = RunStatus.CANCELED
        raise
    finally:
        if notes.error:
            status, error = RunStatus.FAILED, notes.error
        if not away:
            runs.finish(notes.end(start, clock(), status, error))


def _record(series: SettledSeries) -> SeriesRecord:
    missing_before = [s for s in series.wanted if s not in series.before or not series.before[s].bars]
    return SeriesRecord(
        symbol=series.symbol.name,
        timeframe=series.timeframe.name,
        sessions=len(series.wanted),
        missing_before=len(missing_before),
        missing_after=len(series.missing),
        bars_written=series.written.inserted,
        bars_changed=series.written.changed,
        bars_unchanged=series.written.unchanged,
        error=str(series.error) if series.error else None,
    )
