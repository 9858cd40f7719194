"""A request for complete series, and the API calls that it still needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum

from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers
from backfill_assets.domain.answers import missing_sessions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_end, week_start
from backfill_assets.domain.gaps import Gap, GapFinder
from backfill_assets.domain.listings import REFRESHED_AFTER, UNKNOWN, Listing
from backfill_assets.domain.request_plan import ApiCall, plan_days, plan_files, plan_minutes
from backfill_assets.domain.retries import USUAL, Retries, Retry
from backfill_assets.domain.sessions import Calendar, calendar, horizon
from backfill_assets.domain.sources import POLYGON, POLYGON_FILES, fallbacks, file_due
from backfill_assets.domain.timeframes import WEEK_1, Base, Timeframe, made_from, sources
from backfill_assets.domain.universe import Archive, Market, Symbol


class Refresh(Enum):
    """Which stored sessions are fetched again."""

    NOTHING = "nothing"
    RESTATEMENTS = "restatements"
    """What vendors revise in the following days: the minutes of all sessions, because a longer range costs no more; the daily
    bar of the oldest session only, because each further one may cost a call of its own."""
    EVERYTHING = "everything"
    FILES = "files"
    """The sessions whose flat file is new, or was replaced: bars of the REST API are compared with it."""


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A request for finished sessions of symbols, in some timeframes, as of the instant `now` (UTC).

    `refresh` selects complete sessions to fetch again, `retry` incomplete ones that were fetched before.
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
    """By symbol name, if known: sessions outside are not expected."""
    unexpected: Mapping[Symbol, tuple[date, ...]] = field(default_factory=dict)
    """The sessions that were requested too, but are outside the listings."""
    files: Mapping[Timeframe, Collection[date]] | None = None
    """The sessions that can be read from flat files; None: those whose file is due."""

    @property
    def names(self) -> list[str]:
        """The names of the symbols."""
        return [symbol.name for symbol in self.wanted]

    @property
    def newest(self) -> date | None:
        """The last finished session of the market; later ones are never fetched."""
        return self.calendar.last_finished(self.now)

    def filed(self, timeframe: Timeframe) -> Collection[date]:
        """Return the sessions that can be read from flat files."""
        if POLYGON_FILES not in self.market.sources:
            return ()
        if self.files is not None:
            return self.files.get(timeframe, ())
        return {s for s in self.calendar.within(self.days) if file_due(s) <= self.now} if self.days else ()

    @property
    def days(self) -> DayRange | None:
        """From the first session that may be fetched to the last, or None if there is none."""
        spans = [s for s in (*self.wanted.values(), *map(self.around, self.unexpected)) if s]
        return DayRange(min(s[0] for s in spans), max(s[-1] for s in spans)) if spans else None

    @property
    def weeks(self) -> DayRange | None:
        """The complete weeks around `days`: a weekly bar is derived from all of its days."""
        return DayRange(week_start(self.days.start), week_end(self.days.end)) if self.days else None

    def finished(self, symbol: Symbol, sessions: Sequence[date]) -> tuple[date, ...]:
        """Return the symbol's finished sessions in the complete weeks of the sessions (ascending)."""
        newest = self.newest
        if not sessions or newest is None or newest < sessions[0]:
            return ()
        weeks = self.calendar.within(DayRange(week_start(sessions[0]), min(week_end(sessions[-1]), newest)))
        listing = self.listings.get(symbol.name, UNKNOWN)
        first = self.calendar.first_week
        return tuple(s for s in weeks[listing.expected(weeks)] if listing.held(s) and s >= first)

    def around(self, symbol: Symbol) -> tuple[date, ...]:
        """Return the sessions around the symbol's listing, which is not exact: bars there refute it."""
        listing = self.listings.get(symbol.name, UNKNOWN)
        return tuple(s for s in self.unexpected.get(symbol, ()) if listing.around(s))

    def expected(self, symbol: Symbol, timeframe: Timeframe) -> tuple[date, ...]:
        """Return the wanted sessions that have a bar in a timeframe: no weekly one if the market starts within their week."""
        wanted = self.wanted[symbol]
        return wanted if timeframe != WEEK_1 else tuple(s for s in wanted if s >= self.calendar.first_week)

    def within(self, listings: Mapping[str, Listing]) -> BackfillRequest:
        """Return the request without sessions before a symbol's listing or after its end; by symbol name."""
        wanted, unexpected = {}, {}
        for symbol, sessions in self.wanted.items():
            chosen = tuple(sorted({*sessions, *self.unexpected.get(symbol, ())}))
            expected = listings.get(symbol.name, UNKNOWN).expected(chosen)
            wanted[symbol] = chosen[expected]
            unexpected[symbol] = chosen[: expected.start] + chosen[expected.stop :]
        return replace(self, wanted=wanted, listings=listings, unexpected=unexpected)


def recorded(store: BarStore, request: BackfillRequest) -> SeriesAnswers:
    """Read what is recorded of all series of a request, and of those that they are derived from."""
    if request.weeks is None:
        return {}
    return store.answers(request.names, request.market.timeframes, request.weeks, request.market.witness)


def plan(request: BackfillRequest, answers: SeriesAnswers) -> list[ApiCall]:
    """Return the fewest calls that a request still needs, of the sources of its market.

    What was requested before is requested from the REST API again, if the market has it: it answers for one symbol.
    """
    calls: list[ApiCall] = []
    order, wanted = request.market.sources, request.wanted
    for source in sources(request.timeframes):
        files = request.filed(source)
        if request.refresh is Refresh.FILES:
            calls += plan_files(source, wanted, files)
            continue
        missing = {s: _to_fetch(request, s, source, days, answers) for s, days in wanted.items()}
        if POLYGON not in order:
            calls += plan_files(source, missing, files)
            continue
        again: dict[Symbol, Sequence[date]] = {}
        if files:
            known = {s: answers.get((s.name, source.name), {}) for s in missing}
            again = {s: [day for day in days if day in known[s]] for s, days in missing.items()}
            missing = {s: [day for day in days if day not in known[s]] for s, days in missing.items()}
        first = order[0] == POLYGON_FILES
        for some, filed in ((missing, files), (again, ())):
            if source.base is Base.DAY:
                calls += plan_days(source, some, request.calendar, filed if first else ())
            else:
                calls += plan_minutes(source, some, request.calendar, filed, files_first=first)
    return calls


def needed(request: BackfillRequest, symbol: Symbol, source: Timeframe, sessions: Sequence[date]) -> set[date]:
    """Return the sessions and, if weeks are derived from the source, the finished days of their weeks."""
    weekly = WEEK_1 in request.timeframes and source == WEEK_1.source
    return {*sessions, *(request.finished(symbol, sessions) if weekly else ())}


def _to_fetch(
    request: BackfillRequest, symbol: Symbol, source: Timeframe, sessions: Sequence[date], answers: SeriesAnswers
) -> Sequence[date]:
    """Return the sessions to fetch of a source; days in complete weeks if weeks are derived from them."""
    known = answers.get((symbol.name, source.name), {})
    expected = needed(request, symbol, source, sessions)
    listing = request.listings.get(symbol.name, UNKNOWN)
    if listing.unknown_at and request.now < listing.unknown_at + REFRESHED_AFTER and request.retry is Retry.DUE:
        return ()
    due = request.retries.to_ask(expected, known, request.now, request.retry)
    around = (s for s in request.around(symbol) if s not in known)
    return [s for s in sorted({*due, *_refreshed(request.refresh, source, sessions), *around}) if listing.held(s)]


def _refreshed(refresh: Refresh, source: Timeframe, sessions: Sequence[date]) -> Sequence[date]:
    if refresh is Refresh.NOTHING:
        return ()
    return sessions[:1] if refresh is Refresh.RESTATEMENTS and source.base is Base.DAY else sessions


def gaps_of(request: BackfillRequest, answers: SeriesAnswers) -> list[Gap]:
    """Return the gaps of a request by symbol and timeframe, with their reasons."""
    finder = GapFinder(request.calendar, request.retries, fallbacks(request.market.sources), request.now.date())
    found: list[Gap] = []
    for symbol, sessions in request.wanted.items():
        wanted = set(sessions)
        for timeframe in request.timeframes:
            missing = missing_sessions(sessions, answers.get((symbol.name, timeframe.name), {}))
            of_source = answers.get((symbol.name, timeframe.source.name), {})
            incomplete = {d: a for d, a in of_source.items() if not a.complete and (d in wanted or timeframe == WEEK_1)}
            listing = request.listings.get(symbol.name, UNKNOWN)
            found += finder.gaps(symbol.name, timeframe, [DayRange(d, d) for d in missing], incomplete, listing)
    return found


def underived(request: BackfillRequest, answers: SeriesAnswers) -> list[tuple[Symbol, Timeframe, list[date]]]:
    """Return stored sessions that have not been derived, by symbol and source: a timeframe was added to the universe."""
    found = []
    for symbol in request.wanted:
        for source in sources(request.timeframes):
            stored = answers.get((symbol.name, source.name), {})
            missing = {
                s
                for timeframe in made_from(source, request.timeframes)
                for s in request.expected(symbol, timeframe)
                if s in stored and stored[s].bars and s not in answers.get((symbol.name, timeframe.name), {})
            }
            if missing:
                found.append((symbol, source, sorted(missing)))
    return found


def market_calendar(market: Market | Archive, today: date) -> Calendar:
    """Return the calendar of a market or archive from its first day to the end of next year, without its extra closures."""
    return calendar(market.kind, DayRange(market.start, horizon(today)), frozenset(market.closures))
