"""How a market's bars stand: gaps, thin sessions, bars that cannot be right, and whether the newest session is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.quality import Examination, QualityStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.gaps import FIRST_ATTEMPT_DELAY, Gap
from backfill_assets.domain.listings import UNKNOWN
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.gaps import Watched, find_gaps
from backfill_assets.pipelines.minutes import ThinSession, judge_minutes

RECENT = timedelta(days=35)
"""So far back bars are always examined; what an older run wrote was examined by that run."""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found of a market.

    gaps      all of them, explained ones too
    thin      sessions with far too few minutes
    examined  the bars that were looked at
    newest    the last session that the nightly run has had time for, None where there is none yet
    awaited   the symbols that are expected to have it
    """

    gaps: tuple[Gap, ...]
    thin: tuple[ThinSession, ...]
    examined: Examination
    newest: date | None
    awaited: tuple[str, ...]

    def lacking_newest(self, timeframe: str) -> list[str]:
        """The symbols whose newest session is missing, for no reason that is known."""
        return [
            g.symbol
            for g in self.gaps
            if g.timeframe == timeframe and not g.explained and self.newest is not None and self.newest in g.days
        ]


def recent_days(market: Market, calendar: Calendar, now: datetime) -> DayRange:
    """The last RECENT up to today, as far as the market is kept."""
    today = now.astimezone(calendar.hours.zone).date()
    return DayRange(max(market.start, today - RECENT), today)


def examined_days(market: Market, calendar: Calendar, now: datetime, days: DayRange | None) -> tuple[DayRange, ...]:
    """The recent days, and `days` too: ascending, and so far apart that no week lies in two of them.

    The recent ones are always among them: the verdict of a run over other days would hide what is wrong there.
    """
    recent = recent_days(market, calendar, now)
    first, second = sorted((days or recent, recent))
    if week_start(second.start) <= first.end:
        return (DayRange(first.start, max(first.end, second.end)),)
    return first, second


def examine(store: Store, watched: Watched, now: datetime, days: DayRange | None = None) -> Health:
    """Look at a market at `now`: at all its gaps and minutes, at the bars of the last RECENT and of `days`.

    Marks of partial sessions and the table of gaps are brought up to date on the way.
    """
    market, calendar = watched.market, watched.calendar
    symbols = [s.name for s in market.symbols]
    quality = QualityStore.beside(store)
    # First what the database does by itself: in a run, its events of partitions are being written beside it.
    parts = (
        quality.examine(symbols, market.timeframes, calendar, part)
        for part in examined_days(market, calendar, now, days)
    )
    examined = reduce(Examination.merged, parts)
    thin: list[ThinSession] = []
    if MINUTE_1 in market.timeframes:
        thin = judge_minutes(SeriesStore.beside(store), symbols, calendar)
    gaps = find_gaps(GapStore.beside(store), watched, now)
    newest = calendar.last_finished(now - FIRST_ATTEMPT_DELAY)
    return Health(
        gaps=tuple(gaps),
        thin=tuple(thin),
        examined=examined,
        newest=newest,
        awaited=tuple(s for s in symbols if newest and watched.listings.get(s, UNKNOWN).expects(newest)),
    )
