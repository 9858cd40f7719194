"""The fewest requests that cover what is missing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import Base, Timeframe
from backfill_assets.domain.universe import Symbol

PAGE = 50_000
"""Base bars a page holds at the most: Polygon's documented maximum of `limit`."""


@dataclass(frozen=True, slots=True)
class RangeCall:
    """One symbol's bars of one timeframe over sessions that follow each other; the vendor may answer in `pages` pages."""

    symbol: Symbol
    timeframe: Timeframe
    sessions: tuple[date, ...]
    """What is requested, first to last, including answered sessions in between: int (n ≥ 1)."""
    pages: int
    """The most requests that it can take."""

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The one symbol."""
        return (self.symbol,)

    @property
    def label(self) -> str:
        """Whose bars these are, for a person."""
        return self.symbol.name

    @property
    def start(self) -> date:
        """First requested session."""
        return self.sessions[0]

    @property
    def end(self) -> date:
        """Last requested session."""
        return self.sessions[-1]


def sessions_a_page(timeframe: Timeframe, calendar: Calendar) -> int:
    """How many sessions fit on one page for certain, however many bars they have."""
    return PAGE // (calendar.hours.minutes if timeframe.base is Base.MINUTE else 1)


def plan_series(symbol: Symbol, timeframe: Timeframe, missing: Collection[date], calendar: Calendar) -> list[RangeCall]:
    """The requests for one series: fewest in number, and among neighbours joined so that half-full pages run together.

    Windows of one page are laid from the first session not yet covered: no other choice needs fewer. A window that
    begins right where the last one ended is requested as one range, whose pages the vendor fills completely.
    Sessions that the calendar does not have are not requested.
    """
    capacity = sessions_a_page(timeframe, calendar)
    spans = _windows(sorted(set(missing)), calendar.sessions, capacity)
    return [RangeCall(symbol, timeframe, calendar.sessions[a : b + 1], -(-(b + 1 - a) // capacity)) for a, b in spans]


def _windows(missing: Sequence[date], sessions: Sequence[date], capacity: int) -> list[tuple[int, int]]:
    """Index pairs (first, last) into `sessions`."""
    spans: list[tuple[int, int]] = []
    limit = -1  # the last index that the page of the newest span still reaches
    for day in missing:
        i = bisect_left(sessions, day)
        if i == len(sessions) or sessions[i] != day:
            continue
        if spans and i <= limit:
            spans[-1] = (spans[-1][0], i)
            continue
        if spans and i == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], i)
        else:
            spans.append((i, i))
        limit = i + capacity - 1
    return spans


@dataclass(frozen=True, slots=True)
class GroupedCall:
    """Every symbol's daily bar of one session, in one request; `symbols` are those for which it is requested."""

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    session: date
    pages: int = 1

    @property
    def sessions(self) -> tuple[date, ...]:
        """The one session."""
        return (self.session,)

    @property
    def label(self) -> str:
        """Whose bars these are, for a person."""
        return f"{len(self.symbols)} symbols"

    @property
    def start(self) -> date:
        """The session."""
        return self.session

    @property
    def end(self) -> date:
        """The session."""
        return self.session


type ApiCall = RangeCall | GroupedCall


def plan_days(timeframe: Timeframe, missing: Mapping[Symbol, Collection[date]], calendar: Calendar) -> list[ApiCall]:
    """The requests for daily bars of a market: a range a symbol, or one grouped request a session, whichever is fewer.

    A missing cell (symbol, session) is covered by the range of its symbol or by the grouped request of its session, so the
    fewest requests are a least vertex cover of the cells, found by way of a largest matching (Koenig's theorem). A range
    of days never takes a second page: 50,000 days are 198 years.
    """
    wanted = {symbol: {s for s in sessions if s in calendar} for symbol, sessions in missing.items()}
    ranged, grouped = _least_cover(wanted)
    requests: list[ApiCall] = [
        RangeCall(symbol, timeframe, calendar.within(DayRange(min(days), max(days))), 1)
        for symbol in ranged
        if (days := wanted[symbol] - grouped)
    ]
    for session in sorted(grouped):
        symbols = tuple(s for s in wanted if session in wanted[s])
        requests.append(GroupedCall(symbols, timeframe, session))
    return requests


def _least_cover(cells: Mapping[Symbol, Collection[date]]) -> tuple[list[Symbol], set[date]]:
    """Symbols and sessions, fewest together, such that each cell has one of its two among them."""
    of_session: dict[date, Symbol] = {}
    of_symbol: dict[Symbol, date] = {}
    for symbol in cells:
        _augment(symbol, cells, of_session, of_symbol)
    reached_sessions: set[date] = set()
    reached_symbols = {s for s in cells if s not in of_symbol}
    waiting = list(reached_symbols)
    while waiting:
        for session in cells[waiting.pop()]:
            if session not in reached_sessions:
                reached_sessions.add(session)
                partner = of_session[session]
                if partner not in reached_symbols:
                    reached_symbols.add(partner)
                    waiting.append(partner)
    return [s for s in cells if s not in reached_symbols], reached_sessions


def _augment(
    symbol: Symbol,
    cells: Mapping[Symbol, Collection[date]],
    of_session: dict[date, Symbol],
    of_symbol: dict[Symbol, date],
) -> None:
    """Match one more symbol where that can be done, re-matching others on the way; breadth first."""
    came_from: dict[date, Symbol] = {}
    queue = [symbol]
    for current in queue:
        for session in cells[current]:
            if session in came_from:
                continue
            came_from[session] = current
            if session in of_session:
                queue.append(of_session[session])
                continue
            step: date | None = session
            while step is not None:
                holder = came_from[step]
                before = of_symbol.get(holder)
                of_session[step], of_symbol[holder] = holder, step
                step = before
            return


def cells(request: ApiCall) -> int:
    """How many sessions of how many symbols a request covers, multiplied."""
    return len(request.sessions) * len(request.symbols)


def pages_of(requests: Iterable[ApiCall]) -> int:
    """The most HTTP requests that a plan takes, retries aside."""
    return sum(r.pages for r in requests)


def floor_seconds(requests: int, per_second: float) -> float:
    """The least time that so many requests take at a rate: the first goes at once."""
    return max(0, requests - 1) / per_second
