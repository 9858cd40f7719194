"""What the runs that have ended say: failures that nothing has made good, and days without a success."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that succeeded or failed. Instants are UTC; `started_at` is that of its end where it failed before it began."""

    run: str
    succeeded: bool
    started_at: datetime
    ended_at: datetime


def unresolved_failure(runs: Iterable[EndedRun], harmless: Callable[[EndedRun], bool]) -> EndedRun | None:
    """The failed run that ended last, unless a run that began after its end went through.

    A run went through where it succeeded, or where its failure is `harmless`, which is asked only where it matters.
    """
    through: datetime | None = None
    # of what ended at one instant, what succeeded comes first: it may have begun at that instant too
    for run in sorted(runs, key=lambda r: (r.ended_at, r.succeeded, r.run), reverse=True):
        if not run.succeeded:
            if through is not None and through >= run.ended_at:
                return None  # and so are all that ended before it
            if not harmless(run):
                return run
        through = run.started_at if through is None else max(through, run.started_at)
    return None


def failed_days(runs: Iterable[EndedRun]) -> tuple[date, ...]:
    """The latest days (UTC, ascending) on which runs ended and none succeeded.

    Days on which no run ended, as on a market's weekend, neither count nor end the row.
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
