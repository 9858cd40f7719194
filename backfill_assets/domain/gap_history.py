"""What became of the gaps that were known, from those that are found now.

What lives here: the comparison, pure. What does not: finding gaps (`gaps`), and the table that keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

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
    by_series: dict[tuple[str, str], list[KnownGap]] = {}
    for k in known:
        by_series.setdefault((k.gap.symbol, k.gap.timeframe), []).append(k)
    open_now: dict[tuple[str, str], list[DayRange]] = {}
    for gap in found:
        open_now.setdefault((gap.symbol, gap.timeframe), []).append(gap.days)
    gone = [k for k in known if k.gap not in still]
    return Change(
        gone=tuple(k.id for k in gone),
        closed=tuple(
            part
            for k in gone
            for part in _closed(k, open_now.get((k.gap.symbol, k.gap.timeframe), []), calendar, listings)
        ),
        opened=tuple(
            OpenGap(gap, _first_seen(gap, by_series.get((gap.symbol, gap.timeframe), []), now))
            for gap in found
            if gap not in before
        ),
    )


def _closed(
    known: KnownGap, still_open: Iterable[DayRange], calendar: Calendar, listings: Mapping[str, Listing]
) -> Iterable[OpenGap]:
    overlapping = [days for days in still_open if days.intersect(known.gap.days)]
    listing = listings.get(known.gap.symbol, UNKNOWN)
    by_reason: dict[Reason, list[date]] = {}
    for day in calendar.within(known.gap.days):
        if not any(day in days for days in overlapping):
            by_reason.setdefault(_reason(day, listing, known.gap.reason), []).append(day)
    for reason, days in by_reason.items():
        for run in runs_of(days, calendar.within(known.gap.days)):
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


def _first_seen(gap: Gap, known: Iterable[KnownGap], now: datetime) -> datetime:
    return min([now, *(k.first_seen for k in known if k.gap.days.intersect(gap.days))])
