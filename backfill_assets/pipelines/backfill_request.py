"""What shall be complete, and the requests that it still needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum

from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers
from backfill_assets.domain.answers import Answers, missing_sessions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_end, week_start
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.request_plan import ApiCall, plan_days, plan_series
from backfill_assets.domain.retries import USUAL, Retries, Retry
from backfill_assets.domain.sessions import Calendar, calendar, horizon
from backfill_assets.domain.timeframes import WEEK_1, Base, Timeframe, made_from, sources
from backfill_assets.domain.universe import Market, Symbol


class Refresh(Enum):
    """What of the sessions that are stored already is asked for again."""

    NOTHING = "nothing"
    RESTATEMENTS = "restatements"
    """What a vendor revises in the days after: the minutes of all sessions, since a range costs no more for being longer; the
    daily bars of the oldest of them, since each further session may cost a request of its own."""
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What shall be complete: finished sessions of symbols, in timeframes, as of the instant `now` (UTC).

    `refresh` says what is asked for again although it is whole, `retry` what of that which is not, and was asked for before.
    """

    market: Market
    calendar: Calendar
    wanted: Mapping[Symbol, tuple[date, ...]]
    timeframes: tuple[Timeframe, ...]
    now: datetime
    refresh: Refresh = Refresh.NOTHING
    retry: Retry = Retry.DUE
    retries: Retries = USUAL
    listings: Mapping[str, Listing] = field(default_factory=dict)
    """By symbol name, where known: nothing is asked for outside."""

    @property
    def newest(self) -> date | None:
        """The last finished session of the market: nothing after it is asked for, whatever else would profit."""
        return self.calendar.last_finished(self.now)

    @property
    def days(self) -> DayRange | None:
        """From the first wanted session to the last, or None where none is wanted."""
        spans = [s for s in self.wanted.values() if s]
        return DayRange(min(s[0] for s in spans), max(s[-1] for s in spans)) if spans else None

    def finished(self, symbol: Symbol, sessions: Sequence[date]) -> tuple[date, ...]:
        """The symbol's finished sessions in the weeks that the sessions (ascending) lie in."""
        newest = self.newest
        if not sessions or newest is None or newest < sessions[0]:
            return ()
        weeks = self.calendar.within(DayRange(week_start(sessions[0]), min(week_end(sessions[-1]), newest)))
        listing = self.listings.get(symbol.name, UNKNOWN)
        return tuple(s for s in weeks if listing.expects(s))

    def within(self, listings: Mapping[str, Listing]) -> BackfillRequest:
        """The same without the sessions before a symbol's listing and after its end; by symbol name."""
        wanted = {
            symbol: tuple(s for s in sessions if listings.get(symbol.name, UNKNOWN).expects(s))
            for symbol, sessions in self.wanted.items()
        }
        return replace(self, wanted=wanted, listings=listings)


def recorded(store: BarStore, order: BackfillRequest) -> SeriesAnswers:
    """What stands recorded of everything that the order names, and of what that is derived from."""
    if order.days is None:
        return {}
    days = DayRange(week_start(order.days.start), week_end(order.days.end))
    return store.answers([s.name for s in order.wanted], order.market.timeframes, days)


def plan(order: BackfillRequest, answers: SeriesAnswers) -> list[ApiCall]:
    """The fewest requests that the order still needs: minutes symbol by symbol, days whichever way is cheaper."""
    requests: list[ApiCall] = []
    for source in sources(order.timeframes):
        missing = {s: _to_ask(order, s, source, sessions, answers) for s, sessions in order.wanted.items()}
        if source.base is Base.DAY:
            requests += plan_days(source, missing, order.calendar)
        else:
            for symbol, sessions in missing.items():
                requests += plan_series(symbol, source, sessions, order.calendar)
    return requests


def _to_ask(
    order: BackfillRequest, symbol: Symbol, source: Timeframe, sessions: Sequence[date], answers: SeriesAnswers
) -> Sequence[date]:
    """The sessions that a source is asked for; days in whole weeks where weeks are made from them."""
    known = answers.get((symbol.name, source.name), {})
    asked = {*_open(order, sessions, known), *_again(order.refresh, source, sessions)}
    if WEEK_1 in order.timeframes and source == WEEK_1.source:
        asked |= {*_open(order, order.finished(symbol, sessions), known)}
    return sorted(asked)


def _open(order: BackfillRequest, sessions: Sequence[date], known: Answers) -> list[date]:
    return order.retries.to_ask(sessions, known, order.now, order.retry)


def _again(refresh: Refresh, source: Timeframe, sessions: Sequence[date]) -> Sequence[date]:
    if refresh is Refresh.NOTHING:
        return ()
    return sessions[:1] if refresh is Refresh.RESTATEMENTS and source.base is Base.DAY else sessions


def gaps_of(order: BackfillRequest, answers: SeriesAnswers) -> list[Gap]:
    """What of the order is not whole, by symbol and timeframe, with its reasons."""
    finder = GapFinder(order.calendar, order.retries)
    found: list[Gap] = []
    for symbol, sessions in order.wanted.items():
        wanted = set(sessions)
        for timeframe in order.timeframes:
            lacking = missing_sessions(sessions, answers.get((symbol.name, timeframe.name), {}))
            of_source = answers.get((symbol.name, timeframe.source.name), {})
            incomplete = {d: a for d, a in of_source.items() if not a.complete and (d in wanted or timeframe == WEEK_1)}
            found += finder.gaps(symbol.name, timeframe, [DayRange(d, d) for d in lacking], incomplete)
    return found


def underived(order: BackfillRequest, answers: SeriesAnswers) -> list[tuple[Symbol, Timeframe, list[date]]]:
    """What a source has and what is made from it lacks, by symbol and source: a timeframe was added to the universe."""
    found = []
    for symbol, sessions in order.wanted.items():
        for source in sources(order.timeframes):
            stored = answers.get((symbol.name, source.name), {})
            made = [answers.get((symbol.name, t.name), {}) for t in made_from(source, order.timeframes)]
            lacking = [s for s in sessions if s in stored and stored[s].bars and any(s not in m for m in made)]
            if lacking:
                found.append((symbol, source, lacking))
    return found


def market_calendar(market: Market, today: date) -> Calendar:
    """The market's calendar from its first day to the end of next year, without its extra closures."""
    return calendar(market.kind, DayRange(market.start, horizon(today)), frozenset(market.closures))
