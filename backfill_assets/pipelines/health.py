"""Examine a market's bars: gaps, partial sessions, invalid bars, outliers, and whether the newest session is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.adapters.store.quality import Examination, QualityStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.adapters.store.sources import SessionDifference, SourceStore
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.gaps import FIRST_ATTEMPT_DELAY, Gap, Reason, unexplained
from backfill_assets.domain.listings import UNKNOWN
from backfill_assets.domain.plausibility import Outlier
from backfill_assets.domain.sessions import Calendar, Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, sources
from backfill_assets.domain.universe import Market
from backfill_assets.domain.witness import Disagreement
from backfill_assets.pipelines.gaps import JudgedMinutes, Watched, find_gaps, judge_minutes
from backfill_assets.pipelines.witness import compare_with_witness

RECENT = timedelta(days=35)
"""How far back bars are always examined. Older bars were examined by the run that wrote them."""


@dataclass(frozen=True, slots=True)
class Health:
    """The result of an examination.

    gaps      all gaps, including explained ones
    minutes   partial sessions, and how many cannot be judged yet
    examined  the bars that were examined
    outliers  prices of these bars that are far from all around them
    newest    the last session that the nightly run has had time to fetch, None if there is none yet
    expected  the symbols that are expected to have it
    unknown   the symbols whose ticker the vendor does not know, with a sentence each
    mixed     the symbols whose bars are probably those of several companies, with a sentence each
    differences  the sessions that differ from another source, the newest first
    disagreements  daily prices that differ from the witness's, the newest first; `witnessed` sessions were compared
    """

    market: str
    gaps: tuple[Gap, ...]
    minutes: JudgedMinutes
    examined: Examination
    outliers: tuple[Outlier, ...]
    newest: date | None
    expected: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...] = ()
    mixed: tuple[tuple[str, str], ...] = ()
    differences: tuple[SessionDifference, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    witnessed: int = 0

    def without_newest(self, timeframe: str, *, partial: bool = False) -> list[str]:
        """Return the symbols whose newest session is missing without an explanation; with `partial`, has some of its bars."""
        return [
            g.symbol
            for g in unexplained(self.gaps)
            if g.reason is not Reason.FALLBACK
            and (g.timeframe, g.reason is Reason.PARTIAL) == (timeframe, partial)
            and self.newest
            and self.newest in g.days
        ]


def recent_days(market: Market, calendar: Calendar, now: datetime) -> DayRange:
    """Return the days of the last RECENT up to today, not before the market's first day."""
    today = now.astimezone(calendar.hours.zone).date()
    return DayRange(max(market.start, today - RECENT), today)


def examined_days(market: Market, calendar: Calendar, now: datetime, days: DayRange | None) -> tuple[DayRange, ...]:
    """Return the recent days and `days`, ascending, as ranges that share no week.

    The recent days are always included: a check of other days only would hide what is wrong there.
    """
    recent = recent_days(market, calendar, now)
    first, second = sorted((days or recent, recent))
    if week_start(second.start) <= first.end:
        return (DayRange(first.start, max(first.end, second.end)),)
    return first, second


def examine(store: Store, watched: Watched, now: datetime, days: DayRange | None = None) -> Health:
    """Examine a market at `now`: all its gaps and minutes, and the bars of the last RECENT and of `days`.

    This also updates the marks of partial sessions and the table of gaps.
    """
    market, calendar = watched.market, watched.calendar
    symbols = [s.name for s in market.symbols]
    quality = QualityStore.beside(store)
    parts = examined_days(market, calendar, now, days)
    examined = reduce(
        Examination.merged, (quality.examine(symbols, market.timeframes, calendar, part) for part in parts)
    )
    outliers = [
        one
        for timeframe in sources(market.timeframes)
        for part in parts
        for one in quality.outliers(symbols, timeframe, calendar, part)
    ]
    minutes = JudgedMinutes()
    if MINUTE_1 in market.timeframes:
        minutes = judge_minutes(SeriesStore.beside(store), symbols, calendar)
    gaps = find_gaps(GapStore.beside(store), watched, now, minutes.marks)
    newest = calendar.last_finished(now - FIRST_ATTEMPT_DELAY)
    disagreements, witnessed = compare_with_witness(store, market)
    return Health(
        market=market.name,
        gaps=tuple(gaps),
        minutes=minutes,
        examined=examined,
        outliers=tuple(outliers),
        newest=newest,
        expected=tuple(s for s in symbols if newest and watched.listings.get(s, UNKNOWN).expects(newest)),
        unknown=tuple((s, one.sentence(s)) for s, one in sorted(watched.listings.items()) if one.unknown_at),
        mixed=tuple(_mixed(store, watched)),
        differences=tuple(SourceStore.beside(store).differences(symbols)),
        disagreements=tuple(disagreements),
        witnessed=witnessed,
    )


def _mixed(store: Store, watched: Watched) -> Iterator[tuple[str, str]]:
    """Yield stocks with bars from before their ticker was theirs, by the vendor's reference data or by their prices."""
    market, calendar = watched.market, watched.calendar
    if market.kind is not Kind.STOCKS:
        return
    for name, listing in sorted(watched.listings.items()):
        if listing.mixed and listing.bars:
            yield name, f"bars since {listing.bars.start}; {listing.sentence(name)}"
    symbols = {s.name: s for s in market.symbols} if DAY_1 in market.timeframes else {}
    for hole in ListingStore.beside(store).long_holes(symbols, calendar.hours.zone):
        known = any(hole.last <= former.until < hole.first for former in symbols[hole.symbol].formerly)
        if not known and hole.breaks(len(calendar.within(DayRange(hole.last + ONE_DAY, hole.first - ONE_DAY)))):
            yield hole.symbol, hole.sentence
