"""What a run did, for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from backfill_assets.domain.gaps import Gap


class RunKind(StrEnum):
    """What a run works on."""

    OHLCV = "ohlcv"
    FEATURES = "features"
    EVENTS = "events"


class RunStatus(StrEnum):
    """How a run stands."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class GapOutcome(StrEnum):
    """What a run made of a gap."""

    FILLED = "filled"
    PARTLY_FILLED = "partly filled"
    EXPLAINED = "explained"
    STILL_OPEN = "still open"


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run that begins: Dagster's id with what it works on of which market, since one run may work on several.

    `trigger` is for a person.
    """

    run_id: str
    kind: RunKind
    market: str
    trigger: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """What a run did for one series: wanted sessions, those of them missing before and after, and what was written.

    Of a run over bars, the bars that the vendor gave; of a run over features, `sessions` are those that have bars, missing is
    one of which a row is missing, and only `features_written`, a count of rows, is not 0.
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


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A gap as it stood before a run, and what became of it."""

    gap: Gap
    fate: GapOutcome
    sessions_left: int


@dataclass(frozen=True, slots=True)
class Restatement:
    """Bars of one series and UTC day whose stored values the vendor changed."""

    symbol: str
    timeframe: str
    first_bar: datetime
    last_bar: datetime
    bars: int


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that ended, with everything that is told of it."""

    run: RunStart
    finished_at: datetime
    status: RunStatus
    error: str | None
    requests: int
    retried: int
    rate_limited: int
    gaps_before: int
    gaps_after: int
    series: tuple[SeriesRecord, ...]
    gaps: tuple[GapRecord, ...]
    restatements: tuple[Restatement, ...]


def gap_outcomes(before: Sequence[Gap], after: Sequence[Gap]) -> tuple[GapRecord, ...]:
    """What became of each gap, from all gaps of the same series and days before and after."""
    by_series: dict[tuple[str, str], list[Gap]] = {}
    for gap in after:
        by_series.setdefault((gap.symbol, gap.timeframe), []).append(gap)
    return tuple(_fate(gap, by_series.get((gap.symbol, gap.timeframe), [])) for gap in before)


def _fate(gap: Gap, after: Sequence[Gap]) -> GapRecord:
    # What is left of it is whatever overlaps it. A gap found after reaches beyond it only where both were left as they were.
    left = [other for other in after if other.days.intersect(gap.days)]
    sessions = min(sum(other.sessions for other in left), gap.sessions)
    if not left:
        return GapRecord(gap, GapOutcome.FILLED, 0)
    if sessions < gap.sessions:
        return GapRecord(gap, GapOutcome.PARTLY_FILLED, sessions)
    return GapRecord(gap, GapOutcome.EXPLAINED if all(o.explained for o in left) else GapOutcome.STILL_OPEN, sessions)
