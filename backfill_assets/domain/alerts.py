"""Alerts: what is wrong with one thing, how bad that is, and the ladder that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

from backfill_assets.domain.gaps import ERROR_ABOVE, WARN_ABOVE


class Severity(IntEnum):
    """How bad it is; a higher one is worse."""

    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """For a person: warning, critical."""
        return self.name.lower()


class Measure(StrEnum):
    """What is counted."""

    MISSING_SESSIONS = "missing_sessions"  # that the series which lacks most lacks unexplained
    FAILED_DAYS = "failed_days"  # one after the other, whose OHLCV runs all failed
    FAILED_FEATURES = "failed_features"  # runs that compute features
    CRASHES = "crashes"  # runs that ended otherwise than by naming the series that failed
    PASSING_CRASHES = "passing_crashes"  # of them those that are tried again, or that a person's own command was
    FAILED_ERROR_CHECKS = "failed_error_checks"
    FAILED_WARNING_CHECKS = "failed_warning_checks"
    SILENT = "silent"  # sensors and schedules that should tick and do not
    SWITCHED_OFF = "switched_off"  # those that a person has stopped


@dataclass(frozen=True, slots=True)
class Rung:
    """More than `above` of what is counted is so bad."""

    above: int
    severity: Severity


LADDER: Mapping[Measure, tuple[Rung, ...]] = MappingProxyType(
    {
        Measure.MISSING_SESSIONS: (Rung(WARN_ABOVE, Severity.WARNING), Rung(ERROR_ABOVE, Severity.CRITICAL)),
        Measure.FAILED_DAYS: (Rung(2, Severity.CRITICAL),),
        Measure.FAILED_FEATURES: (Rung(0, Severity.CRITICAL),),
        Measure.CRASHES: (Rung(0, Severity.CRITICAL),),
        Measure.PASSING_CRASHES: (Rung(0, Severity.WARNING),),
        Measure.FAILED_ERROR_CHECKS: (Rung(0, Severity.CRITICAL),),
        Measure.FAILED_WARNING_CHECKS: (Rung(0, Severity.WARNING),),
        Measure.SILENT: (Rung(0, Severity.CRITICAL),),
        Measure.SWITCHED_OFF: (Rung(0, Severity.WARNING),),
    }
)


def severity(measure: Measure, count: int) -> Severity | None:
    """How bad so many are; None where nobody need be told."""
    return max((rung.severity for rung in LADDER[measure] if count > rung.above), default=None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in Dagit to look: a check of an asset (`stocks/ohlcv/1m`), a run, or a sensor or schedule."""

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
    """That something is wrong.

    incident  names the one thing that is wrong, for as long as it is: `gap:stocks`
    sentence  what is wrong, for a person
    rows      the details as a table; empty where there are none
    cure      the command that mends it, or None
    reminds   whether to say it again while it lasts
    """

    incident: str
    severity: Severity
    sentence: str
    rows: Rows = ()
    cure: str | None = None
    place: Place = NOWHERE
    reminds: bool = True
