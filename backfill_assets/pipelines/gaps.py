"""Find the gaps and partial sessions of a market, record them, and measure how complete the market is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import product
from math import isnan
from types import MappingProxyType

import numpy as np

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.adapters.store.base import Store, reconnecting
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.series import Marks, MinuteSession, SeriesStore
from backfill_assets.domain.completeness import Completeness, completeness
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gap_history import reconcile
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.minutes import MinuteProfiles, closing_half_hours, judge
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import HALF_HOURS, Calendar, SessionBars
from backfill_assets.domain.sources import fallbacks
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Market


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
def find_gaps(store: GapStore, watched: Watched, now: datetime, marks: Marks = MappingProxyType({})) -> list[Gap]:
    """Return all gaps of a market at `now`, ascending by symbol and timeframe, and bring the table of gaps up to date.

    A `read_only` store writes nothing; `marks` are those of `judge_minutes` that it has therefore not recorded.
    """
    market, calendar = watched.market, watched.finished(now)
    finder = GapFinder(calendar, watched.retries, fallbacks(market.sources), now.date())
    found: list[Gap] = []
    symbols = [s.name for s in market.symbols]
    with store.locked(
        symbols, market.timeframes, calendar.sessions, watched.listings, marks, witness=market.witness
    ) as rows:
        for symbol, timeframe in product(market.symbols, market.timeframes):
            missing = rows.missing.get((symbol.name, timeframe.name), [])
            incomplete = rows.incomplete.get((symbol.name, timeframe.source.name), {})
            if missing or incomplete:
                listing = watched.listings.get(symbol.name, UNKNOWN)
                found += finder.gaps(symbol.name, timeframe, missing, incomplete, listing)
        if not store.read_only:
            rows.apply(reconcile(rows.known, found, calendar, watched.listings, now), now)
    return found


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
    """The partial sessions, ascending, and the number of sessions that cannot be judged yet, by symbol (without zeros).

    `marks` are changes of marks that were not recorded, because the store is `read_only`.
    """

    thin: tuple[ThinSession, ...] = ()
    unjudged: Mapping[str, int] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)


def judge_minutes(store: SeriesStore, symbols: Sequence[str], calendar: Calendar) -> JudgedMinutes:
    """Judge all stored sessions of the symbols by their minutes, and update their marks unless the store is `read_only`."""
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
    if not store.read_only:
        store.mark_partial(marks)
        marks = {}
    return JudgedMinutes(tuple(thin), unjudged, marks)


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
        counts = {c.session: c for c in BarStore.beside(store).summarize(symbol, timeframe, days, context)}
        summarized = (_summarized(s, timeframe, counts.get(s.session)) for s in found[symbol])
        found[symbol] = [s for s in summarized if s.bars]
    return found


def _summarized(session: MinuteSession, timeframe: Timeframe, counts: SessionBars | None) -> MinuteSession:
    if counts is None:
        return session
    if timeframe == DAY_1:
        return replace(session, day_volume=counts.volume, has_day=counts.bars > 0)
    return replace(session, bars=counts.bars, half_hours=counts.half_hours, volume=counts.volume)


def _profiles(sessions: Sequence[MinuteSession], calendar: Calendar) -> MinuteProfiles:
    minutes = b"".join(s.half_hours or bytes(HALF_HOURS) for s in sessions)
    return MinuteProfiles(
        calendar.kind,
        np.frombuffer(minutes, np.uint8).reshape(-1, HALF_HOURS),
        np.array([s.volume for s in sessions], np.float64),
        np.array([s.day_volume for s in sessions], np.float64),
        closing_half_hours(calendar, [s.session for s in sessions]),
    )


def current_gaps(store: Store, watched: Watched, now: datetime) -> list[Gap]:
    """Judge the minutes of a market and return its gaps at `now`.

    This also updates the marks of partial sessions and the table of gaps, unless the store is `read_only`.
    """
    minutes, market = JudgedMinutes(), watched.market
    if MINUTE_1 in market.timeframes:
        minutes = judge_minutes(SeriesStore.beside(store), [s.name for s in market.symbols], watched.calendar)
    return find_gaps(GapStore.beside(store), watched, now, minutes.marks)


def measure(store: Store, watched: Watched, now: datetime) -> Completeness:
    """Measure a market at `now`; see `current_gaps`."""
    market = watched.market
    gaps = current_gaps(store, watched, now)
    symbols = [s.name for s in market.symbols]
    last_bars = SeriesStore.beside(store).last_bars(symbols, market.timeframes)
    calendar = watched.finished(now)
    return completeness(market, calendar.sessions, watched.listings, gaps, last_bars, now, calendar.first_week)
