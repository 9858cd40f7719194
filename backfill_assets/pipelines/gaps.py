"""Find the gaps and partial sessions of a market, record them, and measure how complete the market is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import product
from math import isnan

import numpy as np

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.base import Store, reconnecting
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.series import MinuteSession, SeriesStore
from backfill_assets.domain.completeness import Completeness, completeness
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gap_history import reconcile
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.minutes import MinuteProfiles, closing_half_hours, judge
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import HALF_HOURS, Calendar
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Market, Universe


@dataclass(frozen=True, slots=True)
class Watched:
    """A market with what its gaps depend on: its sessions, its known listings by symbol name, and the retries."""

    market: Market
    calendar: Calendar
    listings: Mapping[str, Listing]
    retries: Retries

    def finished(self, now: datetime) -> Calendar:
        """Return the calendar up to the last finished session."""
        newest = self.calendar.last_finished(now)
        if newest is None:
            return replace(self.calendar, sessions=())
        return replace(self.calendar, sessions=self.calendar.within(DayRange(self.market.start, newest)))


@reconnecting
def find_gaps(store: GapStore, watched: Watched, now: datetime) -> list[Gap]:
    """Return all gaps of a market at `now`, ascending by symbol and timeframe, and bring the table of gaps up to date."""
    market, calendar = watched.market, watched.finished(now)
    finder = GapFinder(calendar, watched.retries)
    found: list[Gap] = []
    with store.locked([s.name for s in market.symbols], market.timeframes, calendar.sessions, watched.listings) as rows:
        for symbol, timeframe in product(market.symbols, market.timeframes):
            missing = rows.missing.get((symbol.name, timeframe.name), [])
            incomplete = rows.incomplete.get((symbol.name, timeframe.source.name), {})
            if missing or incomplete:
                listing = watched.listings.get(symbol.name, UNKNOWN)
                found += finder.gaps(symbol.name, timeframe, missing, incomplete, listing)
        rows.apply(reconcile(rows.known, found, calendar, watched.listings, now), now)
    return found


def series_of(universe: Universe) -> Iterable[tuple[str, str]]:
    """Return every series of a universe as (symbol, timeframe name)."""
    return ((s.name, t.name) for m in universe.markets for s in m.symbols for t in m.timeframes)


@dataclass(frozen=True, slots=True)
class ThinSession:
    """A session that lacks minutes which are to be expected, and why it is judged so.

    `likely` is the number expected from the symbol's other sessions, None without enough of them.
    """

    symbol: str
    session: date
    bars: int
    likely: int | None
    because: str


@dataclass(frozen=True, slots=True)
class JudgedMinutes:
    """The partial sessions, ascending, and the number of sessions that cannot be judged yet, by symbol (without zeros)."""

    thin: tuple[ThinSession, ...] = ()
    unjudged: Mapping[str, int] = field(default_factory=dict)


def judge_minutes(store: SeriesStore, symbols: Sequence[str], calendar: Calendar) -> JudgedMinutes:
    """Judge all stored sessions of the symbols by their minutes, and update their marks."""
    thin: list[ThinSession] = []
    unjudged: dict[str, int] = {}
    marks: dict[tuple[str, date], str | None] = {}
    for symbol, stored in sorted(_minute_sessions(store, symbols, calendar).items()):
        sessions = [s for s in stored if s.session in calendar]
        verdicts = judge(_profiles(sessions, calendar))
        if missing := len(sessions) - int(verdicts.judged.sum()):
            unjudged[symbol] = missing
        for s, reason, likely in zip(sessions, verdicts.reasons, verdicts.likely.tolist(), strict=True):
            # A reason is kept while the answer stays: numbers of other sessions would change it every day.
            because = reason and (s.partial_because or reason)
            if because:
                thin.append(ThinSession(symbol, s.session, s.bars, None if isnan(likely) else round(likely), because))
            if (s.partial, s.partial_because) != (because is not None, because):
                marks[symbol, s.session] = because
    store.mark_partial(marks)
    return JudgedMinutes(tuple(thin), unjudged)


def _minute_sessions(store: SeriesStore, symbols: Sequence[str], calendar: Calendar) -> dict[str, list[MinuteSession]]:
    found = store.minute_sessions(symbols, calendar.span)
    unsummarized: dict[tuple[str, Timeframe], list[date]] = {}
    for symbol, sessions in found.items():
        for s in sessions:
            if s.half_hours is None:
                unsummarized.setdefault((symbol, MINUTE_1), []).append(s.session)
            if s.has_day and s.day_volume is None:
                unsummarized.setdefault((symbol, DAY_1), []).append(s.session)
    for (symbol, timeframe), days in unsummarized.items():
        context = WriteContext(calendar.hours.zone, datetime.now(UTC))  # no attempt is recorded
        BarStore.beside(store).summarize(symbol, timeframe, days, context)
    return store.minute_sessions(symbols, calendar.span) if unsummarized else found


def _profiles(sessions: Sequence[MinuteSession], calendar: Calendar) -> MinuteProfiles:
    minutes = b"".join(s.half_hours or bytes(HALF_HOURS) for s in sessions)
    return MinuteProfiles(
        calendar.kind,
        np.frombuffer(minutes, np.uint8).reshape(-1, HALF_HOURS),
        np.array([s.volume for s in sessions], np.float64),
        np.array([s.day_volume for s in sessions], np.float64),
        closing_half_hours(calendar, [s.session for s in sessions]),
    )


def measure(store: Store, watched: Watched, now: datetime) -> Completeness:
    """Measure a market at `now`; this also updates the marks of partial sessions and the table of gaps."""
    market = watched.market
    symbols = [s.name for s in market.symbols]
    if MINUTE_1 in market.timeframes:
        judge_minutes(SeriesStore.beside(store), symbols, watched.calendar)
    gaps = find_gaps(GapStore.beside(store), watched, now)
    last_bars = SeriesStore.beside(store).last_bars(symbols, market.timeframes)
    calendar = watched.finished(now)
    return completeness(market, calendar.sessions, watched.listings, gaps, last_bars, now, calendar.first_week)
