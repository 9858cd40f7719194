"""What became of the gaps that were known, from those that are found now."""

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
    """An open gap as the table holds it."""

    id: int
    gap: Gap
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A gap to be noted as open, and since when its first session is known to lack."""

    gap: Gap
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to the table: rows (by id) to take away, rows to note as closed, rows to open, in this order.

    A gap that has shrunk is taken away, the part that is gone is noted as closed, and the rest opened again since it was
    first seen.
    """

    gone: tuple[int, ...] = ()
    closed: tuple[OpenGap, ...] = ()
    opened: tuple[OpenGap, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.closed or self.opened)


def reconcile(
    known: Sequence[KnownGap],
    found: Sequence[Gap],
    calendar: Calendar,
    listings: Mapping[str, Listing],
    now: datetime,
) -> Change:
    """From the open gaps known of some series and all those found in them at `now`: what changes.

    A session that is gone was filled, or was never to be expected as its symbol's listing shows: then that is its
    reason. Days that are no sessions any more are forgotten.
    """
    still = set(found)
    before = {k.gap for k in known}
    known_days = _laid_out((_series(k.gap), k.gap.days, k.first_seen) for k in known)
    found_days = _laid_out((_series(gap), gap.days, gap.days) for gap in found)
    gone = [k for k in known if k.gap not in still]
    return Change(
        gone=tuple(k.id for k in gone),
        closed=tuple(
            part
            for k in gone
            for part in _closed(k, found_days[_series(k.gap)].touching(k.gap.days), calendar, listings)
        ),
        opened=tuple(
            OpenGap(gap, min([now, *known_days[_series(gap)].touching(gap.days)])) for gap in found if gap not in before
        ),
    )


class _Laid[T]:
    """What belongs to ranges of days, found by days without looking at those that do not touch them.

    Comparing each with each would be quadratic in the gaps of a series: a stuttering vendor leaves one every other day.
    """

    def __init__(self, rows: Iterable[tuple[DayRange, T]] = ()) -> None:
        self._rows = sorted(rows, key=lambda row: row[0])
        self._starts = [days.start for days, _ in self._rows]
        self._reached = list(accumulate((days.end for days, _ in self._rows), max))

    def touching(self, days: DayRange) -> list[T]:
        """What belongs to ranges that share a day with these, by the ranges' starts."""
        near = self._rows[bisect_left(self._reached, days.start) : bisect_right(self._starts, days.end)]
        return [item for own, item in near if own.end >= days.start]


def _laid_out[T](rows: Iterable[tuple[tuple[str, str], DayRange, T]]) -> Mapping[tuple[str, str], _Laid[T]]:
    by_series: dict[tuple[str, str], list[tuple[DayRange, T]]] = {}
    for series, days, item in rows:
        by_series.setdefault(series, []).append((days, item))
    return defaultdict(_Laid[T], {series: _Laid(of_it) for series, of_it in by_series.items()})


def _series(gap: Gap) -> tuple[str, str]:
    return gap.symbol, gap.timeframe


def _closed(
    known: KnownGap, still_open: Sequence[DayRange], calendar: Calendar, listings: Mapping[str, Listing]
) -> Iterable[OpenGap]:
    listing = listings.get(known.gap.symbol, UNKNOWN)
    by_reason: dict[Reason, list[date]] = {}
    expected = calendar.within(known.gap.days)
    shared = (days.intersect(known.gap.days) for days in still_open)
    lacking = {day for days in shared if days for day in calendar.within(days)}
    for day in expected:
        if day not in lacking:
            by_reason.setdefault(_reason(day, listing, known.gap.reason), []).append(day)
    for reason, days in by_reason.items():
        for run in runs_of(days, expected):
            sessions = len(calendar.within(run))
            yield OpenGap(
                replace(known.gap, days=run, sessions=sessions, reason=reason, next_attempt_at=None), known.first_seen
            )


def _reason(day: date, listing: Listing, reason: Reason) -> Reason:
    if listing.listed and day < listing.listed:
        return Reason.PRE_LISTING
    if listing.delisted and day > listing.delisted:
        return Reason.DELISTED
    return reason
