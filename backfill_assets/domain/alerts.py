"""Alerts: findings, their severity, and the thresholds of each measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

from backfill_assets.domain.gaps import ERROR_ABOVE, WARN_ABOVE


class Severity(IntEnum):
    """How severe a finding is; higher is worse."""

    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The severity in lower case."""
        return self.name.lower()


class Measure(StrEnum):
    """What is counted."""

    MISSING_SESSIONS = "missing_sessions"  # unexplained, of the series that has the most
    FAILED_DAYS = "failed_days"  # consecutive days on which no OHLCV run succeeded
    FAILED_FEATURES = "failed_features"  # failed runs of the features
    CRASHES = "crashes"  # runs that failed without naming the series that failed
    PASSING_CRASHES = "passing_crashes"  # crashes that are retried, or whose command was ended
    FAILED_ERROR_CHECKS = "failed_error_checks"
    FAILED_WARNING_CHECKS = "failed_warning_checks"
    SILENT = "silent"  # sensors and schedules that are on and do not tick
    SWITCHED_OFF = "switched_off"  # sensors and schedules that a person has stopped


THRESHOLDS: Mapping[Measure, Mapping[Severity, int]] = MappingProxyType(
    {
        Measure.MISSING_SESSIONS: {Severity.WARNING: WARN_ABOVE, Severity.CRITICAL: ERROR_ABOVE},
        Measure.FAILED_DAYS: {Severity.CRITICAL: 2},
        Measure.FAILED_FEATURES: {Severity.CRITICAL: 0},
        Measure.CRASHES: {Severity.CRITICAL: 0},
        Measure.PASSING_CRASHES: {Severity.WARNING: 0},
        Measure.FAILED_ERROR_CHECKS: {Severity.CRITICAL: 0},
        Measure.FAILED_WARNING_CHECKS: {Severity.WARNING: 0},
        Measure.SILENT: {Severity.CRITICAL: 0},
        Measure.SWITCHED_OFF: {Severity.WARNING: 0},
    }
)
"""A count above the number has the severity."""


def severity(measure: Measure, count: int) -> Severity | None:
    """Return the severity of a count, or None if it needs no alert."""
    return max((level for level, above in THRESHOLDS[measure].items() if count > above), default=None)


@dataclass(frozen=True, slots=True)
class Place:
    """The page of the Dagster UI to look at: an asset (`stocks/ohlcv_1m`) or its check, a run, a sensor or a schedule."""

    asset: str | None = None
    check: str | None = None
    run: str | None = None
    sensor: str | None = None
    schedule: str | None = None


NOWHERE = Place()

type Rows = tuple[tuple[str, ...], ...]
"""A table: the names of its columns, then its rows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    incident  the name of what is wrong, the same for as long as it lasts: `gap:stocks`
    sentence  what is wrong
    rows      details as a table; may be empty
    repair    the command that repairs it, if there is one
    reminds   whether to repeat the notification while it lasts
    """

    incident: str
    severity: Severity
    sentence: str
    rows: Rows = ()
    repair: str | None = None
    place: Place = NOWHERE
    reminds: bool = True
