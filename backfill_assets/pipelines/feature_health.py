"""Examine a market's features: bars without features, stale rows, and values out of range."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import product

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.feature_quality import FeatureQuality, OutOfRange
from backfill_assets.adapters.store.features import Covered, FeatureStore, StaleSeries
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.features import bounds
from backfill_assets.pipelines.health import examined_days


@dataclass(frozen=True, slots=True)
class FeatureHealth:
    """The result of an examination at the instant `now`.

    days     the days whose rows were examined, disjoint and ascending
    covered  the series that have bars there, with the number of bars that have no row
    stale    the series with stale rows on any day that has a partition
    outside  values outside the bounds of their column
    """

    now: datetime
    days: tuple[DayRange, ...]
    covered: tuple[Covered, ...]
    stale: tuple[StaleSeries, ...]
    outside: tuple[OutOfRange, ...]

    def waiting(self, symbol: str, timeframe: str) -> bool:
        """Whether a series has stale rows."""
        return any((s.symbol, s.timeframe) == (symbol, timeframe) for s in self.stale)


def examine_features(
    store: Store, market: Market, calendar: Calendar, now: datetime, days: DayRange | None = None
) -> FeatureHealth:
    """Examine a market's features: everything that is stale, and the rows of the last 35 days and of `days`."""
    parts = examined_days(market, calendar, now, days)
    symbols, zone = [s.name for s in market.symbols], calendar.hours.zone
    features, quality = FeatureStore.beside(store), FeatureQuality.beside(store)
    covered: dict[tuple[str, str], Covered] = {}
    outside: dict[tuple[str, str, str], OutOfRange] = {}
    for part, timeframe in product(parts, market.timeframes):
        start, end = bounds(part, timeframe, zone)
        for one in features.covered(symbols, [timeframe], start, end):
            series = (one.symbol, one.timeframe)
            covered[series] = covered[series].merged(one) if series in covered else one
        for other in quality.out_of_range(symbols, timeframe, start, end):
            column = (other.symbol, other.timeframe, other.column)
            outside[column] = outside[column].merged(other) if column in outside else other
    return FeatureHealth(
        now=now,
        days=parts,
        covered=tuple(covered.values()),
        stale=tuple(s for s, _ in stale_sessions(features, market, calendar, now)),
        outside=tuple(outside.values()),
    )


def stale_sessions(
    store: FeatureStore, market: Market, calendar: Calendar, now: datetime
) -> list[tuple[StaleSeries, DayRange]]:
    """Return the stale series of a market, each with the range of finished sessions that a run has to cover.

    A series whose stale bars are all before the market's first day is left out: they have no partition.
    """
    newest = calendar.last_finished(now)
    if newest is None:
        return []
    sessions = calendar.within(DayRange(calendar.span.start, newest))
    found = store.stale([s.name for s in market.symbols], market.timeframes)
    return [(series, hull) for series in found if (hull := _hull(series, sessions, calendar))]


def _hull(stale: StaleSeries, sessions: Sequence[date], calendar: Calendar) -> DayRange | None:
    """Return the sessions of the stale bars' days. If such a day is no longer a session, take the nearest ones."""
    first, last = (at.astimezone(calendar.hours.zone).date() for at in (stale.first, stale.last))
    week = timedelta(days=6 if TIMEFRAMES[stale.timeframe] == WEEK_1 else 0)
    if last + week < sessions[0]:
        return None
    begin = bisect_left(sessions, first)
    if begin == len(sessions) or sessions[begin] > first + week:
        begin = max(begin - 1, 0)
    end = bisect_right(sessions, last + week) - 1
    if sessions[end] < last:
        end = min(end + 1, len(sessions) - 1)
    return DayRange(sessions[begin], sessions[end])
