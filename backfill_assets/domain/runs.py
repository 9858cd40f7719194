"""The record of runs, and what the runs that have ended mean together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from backfill_assets.domain.answers import RejectedBar
from backfill_assets.domain.gaps import Gap


class RunKind(StrEnum):
    """What a run works on."""

    OHLCV = "ohlcv"
    FEATURES = "features"
    EVENTS = "events"


class RunStatus(StrEnum):
    """The status of a run."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class GapOutcome(StrEnum):
    """What became of a gap in a run."""

    FILLED = "filled"
    PARTLY_FILLED = "partly filled"
    EXPLAINED = "explained"
    STILL_OPEN = "still open"


@dataclass(frozen=True, slots=True)
class RunStart:
    """The start of a run: Dagster's run id, and the kind of work and market, since one run may work on several.

    `trigger` is text for a person.
    """

    run_id: str
    kind: RunKind
    market: str
    trigger: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """What a run did for one series: requested sessions, how many were missing before and after, and what was written.

    In a run over bars, bars are those that the vendor returned, and rejected ones were left out. In a run over features,
    `sessions` are those that have bars, a session is missing if one of its rows is, and of the counts only `features_written`
    (rows) is not 0.
    """

    symbol: str
    timeframe: str
    sessions: int
    missing_before: int
    missing_after: int
    bars_written: int
    bars_changed: int
    bars_unchanged: int
    error: str | None
    features_written: int = 0
    bars_rejected: int = 0
    bars_removed: int = 0


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A gap before a run, and its outcome."""

    gap: Gap
    outcome: GapOutcome
    sessions_left: int


@dataclass(frozen=True, slots=True)
class Restatement:
    """Bars of one series and UTC day whose stored values the vendor changed, or that it removed."""

    symbol: str
    timeframe: str
    first_bar: datetime
    last_bar: datetime
    bars: int
    bars_removed: int = 0


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A bar of one series that was left out of an answer."""

    symbol: str
    timeframe: str
    bar: RejectedBar


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run, with everything recorded about it."""

    run: RunStart
    finished_at: datetime
    status: RunStatus
    error: str | None
    requests: int
    retried: int
    rate_limited: int
    planned_requests: int | None
    gaps_before: int
    gaps_after: int
    series: tuple[SeriesRecord, ...]
    gaps: tuple[GapRecord, ...]
    restatements: tuple[Restatement, ...]
    rejected: tuple[RejectedRecord, ...] = ()


def gap_outcomes(before: Sequence[Gap], after: Sequence[Gap]) -> tuple[GapRecord, ...]:
    """Return the outcome of each gap, from all gaps of the same series and days before and after."""
    by_series: dict[tuple[str, str], list[Gap]] = {}
    for gap in after:
        by_series.setdefault((gap.symbol, gap.timeframe), []).append(gap)
    return tuple(_outcome(gap, by_series.get((gap.symbol, gap.timeframe), [])) for gap in before)


def _outcome(gap: Gap, after: Sequence[Gap]) -> GapRecord:
    # A later gap that overlaps this one is what is left of it. It extends beyond this one only if both are unchanged.
    left = [other for other in after if other.days.intersect(gap.days)]
    sessions = min(sum(other.sessions for other in left), gap.sessions)
    if not left:
        return GapRecord(gap, GapOutcome.FILLED, 0)
    if sessions < gap.sessions:
        return GapRecord(gap, GapOutcome.PARTLY_FILLED, sessions)
    return GapRecord(gap, GapOutcome.EXPLAINED if all(o.explained for o in left) else GapOutcome.STILL_OPEN, sessions)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that succeeded or failed; times are UTC. `started_at` equals `ended_at` if it failed before it started."""

    run: str
    succeeded: bool
    started_at: datetime
    ended_at: datetime


def unresolved_failure(runs: Iterable[EndedRun], harmless: Callable[[EndedRun], bool]) -> EndedRun | None:
    """Return the latest failed run, unless a run that started after its end succeeded or failed harmlessly.

    `harmless` is called only for failures that could be the result.
    """
    last_good_start: datetime | None = None
    # Of runs that ended at the same instant, the successful one comes first: it may have started at that instant too.
    for run in sorted(runs, key=lambda r: (r.ended_at, r.succeeded, r.run), reverse=True):
        if not run.succeeded:
            if last_good_start is not None and last_good_start >= run.ended_at:
                return None  # resolved, and so are all failures before it
            if not harmless(run):
                return run
        last_good_start = run.started_at if last_good_start is None else max(last_good_start, run.started_at)
    return None


def failed_days(runs: Iterable[EndedRun]) -> tuple[date, ...]:
    """Return the most recent days (UTC, ascending) on which runs ended and none succeeded.

    Days without an ended run, such as a market's weekend, are skipped.
    """
    by_day: dict[date, bool] = {}
    for run in runs:
        day = run.ended_at.date()
        by_day[day] = by_day.get(day, False) or run.succeeded
    latest: list[date] = []
    for day in sorted(by_day, reverse=True):
        if by_day[day]:
            break
        latest.append(day)
    return tuple(reversed(latest))
