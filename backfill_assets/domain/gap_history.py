"""Compare the gaps that are found now with those that are stored."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import accumulate

from backfill_assets.domain.days import DayRange, runs_of
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.sessions import Calendar


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A stored open gap."""

    id: int
    gap: Gap
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A gap to store, and when it was first seen."""

    gap: Gap
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """Changes to the table, in this order: rows to delete (by id), rows to store as closed, rows to store as open.

    A gap that has shrunk is deleted, the part that is gone stored as closed, and the rest as open since it was first seen.
    """

    gone: tuple[int, ...] = ()
    closed: tuple[OpenGap, ...] = ()
    opened: tuple[OpenGap, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.closed or self.opened)


def reconcile(
    known: Sequence[KnownGap], found: Sequence[Gap], calendar: Calendar, listings: Mapping[str, Listing], now: datetime
) -> Change:
    """Compare the stored open gaps of some series with all gaps found in them at `now`.

    A session that is gone was filled, or is outside its symbol's listing, which is then its reason. Days that are no longer
    sessions are dropped.
    """
    still_open = set(found)
    before = {k.gap for k in known}
    first_seen = _indexed((_series(k.gap), k.gap.days, k.first_seen) for k in known)
    found_days = _indexed((_series(gap), gap.days, gap.days) for gap in found)
    gone = [k for k in known if k.gap not in still_open]
    return Change(
        gone=tuple(k.id for k in gone),
        closed=tuple(
            part
            for k in gone
            for part in _closed(k, found_days[_series(k.gap)].overlapping(k.gap.days), calendar, listings)
        ),
        opened=tuple(
            OpenGap(gap, min([now, *first_seen[_series(gap)].overlapping(gap.days)]))
            for gap in found
            if gap not in before
        ),
    )


class _DayIndex[T]:
    """Values by ranges of days, searched without visiting every range.

    Comparing each range with each would be quadratic in the gaps of a series: a failing vendor may leave one every other day.
    """

    def __init__(self, rows: Iterable[tuple[DayRange, T]] = ()) -> None:
        self._rows = sorted(rows, key=lambda row: row[0])
        self._starts = [days.start for days, _ in self._rows]
        self._max_ends = list(accumulate((days.end for days, _ in self._rows), max))

    def overlapping(self, days: DayRange) -> list[T]:
        """Return the values of ranges that share a day with `days`, in the order of their starts."""
        near = self._rows[bisect_left(self._max_ends, days.start) : bisect_right(self._starts, days.end)]
        return [item for own, item in near if own.end >= days.start]


def _indexed[T](rows: Iterable[tuple[tuple[str, str], DayRange, T]]) -> Mapping[tuple[str, str], _DayIndex[T]]:
    by_series: dict[tuple[str, str], list[tuple[DayRange, T]]] = {}
    for series, days, item in rows:
        by_series.setdefault(series, []).append((days, item))
    return defaultdict(_DayIndex[T], {series: _DayIndex(own) for series, own in by_series.items()})


def _series(gap: Gap) -> tuple[str, str]:
    return gap.symbol, gap.timeframe


def _closed(
    known: KnownGap, still_open: Sequence[DayRange], calendar: Calendar, listings: Mapping[str, Listing]
) -> Iterable[OpenGap]:
    listing = listings.get(known.gap.symbol, UNKNOWN)
    by_reason: dict[Reason, list[date]] = {}
    expected = calendar.within(known.gap.days)
    shared = (days.intersect(known.gap.days) for days in still_open)
    missing = {day for days in shared if days for day in calendar.within(days)}
    for day in expected:
        if day not in missing:
            by_reason.setdefault(_reason(day, listing, known.gap.reason), []).append(day)
    for reason, days in by_reason.items():
        for run in runs_of(days, expected):
            sessions = len(calendar.within(run))
            yield OpenGap(
                replace(known.gap, days=run, sessions=sessions, reason=reason, next_attempt_at=None), known.first_seen
            )


def _reason(day: date, listing: Listing, reason: Reason) -> Reason:
    if listing.first_day and day < listing.first_day:
        return Reason.PRE_LISTING
    if listing.last_day and day > listing.last_day:
        return Reason.DELISTED
    return reason
