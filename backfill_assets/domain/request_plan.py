"""The fewest requests that cover what is missing."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.sources import FIRST_SOURCES, POLYGON, POLYGON_FILES
from backfill_assets.domain.timeframes import Base, Timeframe
from backfill_assets.domain.universe import Symbol

PAGE = 50_000
"""Base bars a page holds at the most: Polygon's documented maximum of `limit`."""


@dataclass(frozen=True, slots=True)
class RangeCall:
    """One symbol's bars of one timeframe over sessions that follow each other; the vendor may answer in `pages` pages.

    The symbol has the same ticker on all of them.
    """

    symbol: Symbol
    timeframe: Timeframe
    sessions: tuple[date, ...]
    """What is requested, first to last, including answered sessions in between: int (n ≥ 1)."""
    pages: int
    """The most requests that it can take."""
    source: str = POLYGON
    """Where they are requested."""

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The one symbol."""
        return (self.symbol,)

    @property
    def ticker(self) -> str:
        """The ticker under which they are requested."""
        return self.symbol.ticker_on(self.start)

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
    Sessions that the calendar does not have are not requested. A change of the ticker begins a new range.
    """
    capacity = sessions_a_page(timeframe, calendar)
    spans = [w for days in _by_ticker(symbol, missing) for w in _windows(days, calendar.sessions, capacity)]
    return [RangeCall(symbol, timeframe, calendar.sessions[a : b + 1], -(-(b + 1 - a) // capacity)) for a, b in spans]


def _by_ticker(symbol: Symbol, days: Iterable[date]) -> list[list[date]]:
    """Return the days, ascending, in groups between changes of the symbol's ticker."""
    return [list(group) for _, group in groupby(sorted(set(days)), symbol.ticker_on)]


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
    """Every symbol's bars of one session, in one request; `symbols` are those for which it is requested.

    Of minutes and days from a flat file, of days from the REST API.
    """

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    session: date
    source: str = POLYGON
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


def plan_minutes(
    timeframe: Timeframe,
    missing: Mapping[Symbol, Collection[date]],
    calendar: Calendar,
    files: Container[date] = (),
    *,
    files_first: bool = False,
) -> list[ApiCall]:
    """The requests for minutes of a market: ranges by symbol, or flat files for the sessions that most symbols miss.

    `files` are the sessions that have one. The result has no more requests than ranges alone, or than files for all of these
    sessions; files are preferred where the number is the same and `files_first`.
    """
    by_session: dict[date, list[Symbol]] = defaultdict(list)
    for symbol, sessions in missing.items():
        for session in set(sessions):
            if session in files and session in calendar:
                by_session[session].append(symbol)

    def split(least: int) -> list[ApiCall]:
        """Plan files for the sessions that at least so many symbols miss."""
        filed = {session: symbols for session, symbols in by_session.items() if len(symbols) >= least}
        calls: list[ApiCall] = [
            GroupedCall(tuple(symbols), timeframe, session, POLYGON_FILES) for session, symbols in sorted(filed.items())
        ]
        for symbol, sessions in missing.items():
            calls += plan_series(symbol, timeframe, [s for s in sessions if s not in filed], calendar)
        return calls

    plans = [split(least) for least in sorted({len(symbols) for symbols in by_session.values()})]
    ranges = split(len(missing) + 1)
    return min([*plans, ranges] if files_first else [ranges, *plans], key=pages_of)


def plan_files(timeframe: Timeframe, wanted: Mapping[Symbol, Collection[date]], files: Iterable[date]) -> list[ApiCall]:
    """The flat files of sessions, each for the symbols of which the session is wanted."""
    missing = {symbol: set(days) for symbol, days in wanted.items()}
    by_session = {session: tuple(s for s, days in missing.items() if session in days) for session in sorted(files)}
    return [GroupedCall(s, timeframe, session, POLYGON_FILES) for session, s in by_session.items() if s]


def plan_days(
    timeframe: Timeframe,
    missing: Mapping[Symbol, Collection[date]],
    calendar: Calendar,
    files: Container[date] = (),
) -> list[ApiCall]:
    """The requests for daily bars of a market: a range a ticker, or one grouped request a session, whichever is fewer.

    A missing cell (symbol, session) is covered by the range of its ticker or by the grouped request of its session, so the
    fewest requests are a least vertex cover of the cells, found by way of a largest matching (Koenig's theorem). A range
    of days never takes a second page: 50,000 days are 198 years. A session of `files` is read from its flat file instead of
    by the grouped request.
    """
    wanted = {
        (symbol, days[0]): set(days)
        for symbol, sessions in missing.items()
        for days in _by_ticker(symbol, (s for s in sessions if s in calendar))
    }
    ranged, grouped = _least_cover(wanted)
    requests: list[ApiCall] = [
        RangeCall(row[0], timeframe, calendar.within(DayRange(min(days), max(days))), 1)
        for row in ranged
        if (days := wanted[row] - grouped)
    ]
    for session in sorted(grouped):
        symbols = tuple(symbol for (symbol, _), days in wanted.items() if session in days)
        requests.append(GroupedCall(symbols, timeframe, session, POLYGON_FILES if session in files else POLYGON))
    return requests


def _least_cover[R: Hashable](cells: Mapping[R, Collection[date]]) -> tuple[list[R], set[date]]:
    """Rows and sessions, fewest together, such that each cell has one of its two among them."""
    of_session: dict[date, R] = {}
    of_row: dict[R, date] = {}
    for row in cells:
        _augment(row, cells, of_session, of_row)
    reached_sessions: set[date] = set()
    reached_rows = {r for r in cells if r not in of_row}
    waiting = list(reached_rows)
    while waiting:
        for session in cells[waiting.pop()]:
            if session not in reached_sessions:
                reached_sessions.add(session)
                partner = of_session[session]
                if partner not in reached_rows:
                    reached_rows.add(partner)
                    waiting.append(partner)
    return [r for r in cells if r not in reached_rows], reached_sessions


def _augment[R: Hashable](
    row: R, cells: Mapping[R, Collection[date]], of_session: dict[date, R], of_row: dict[R, date]
) -> None:
    """Match one more row where that can be done, re-matching others on the way; breadth first."""
    came_from: dict[date, R] = {}
    queue = [row]
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
                before = of_row.get(holder)
                of_session[step], of_row[holder] = holder, step
                step = before
            return


def cells(request: ApiCall) -> int:
    """How many sessions of how many symbols a request covers, multiplied."""
    return len(request.sessions) * len(request.symbols)


def pages_of(requests: Iterable[ApiCall]) -> int:
    """The most HTTP requests to the vendor that a plan takes, retries aside."""
    return sum(r.pages for r in requests if r.source in FIRST_SOURCES)


def floor_seconds(requests: int, per_second: float) -> float:
    """The least time that so many requests take at a rate: the first goes at once."""
    return max(0, requests - 1) / per_second
