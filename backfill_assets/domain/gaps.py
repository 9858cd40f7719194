"""Gaps: ranges of expected sessions that are not complete, each with its reason and its next attempt."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.listings import REFRESHED_AFTER, UNKNOWN, Listing
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.sources import Fallback
from backfill_assets.domain.timeframes import WEEK_1, Timeframe

WARN_ABOVE, ERROR_ABOVE = 1, 7
"""Missing sessions of one series: more than one is a warning, more than seven are an error."""

MOST_NAMED = 10
"""The most symbols that advice names."""

FIRST_ATTEMPT_DELAY = timedelta(hours=6)
"""A session that was never requested is due this long after its end, when the nightly run has had its turn."""


class Reason(StrEnum):
    """Why a session is not complete, or not expected."""

    MISSING = "missing"  # never requested, failed, or not yet confirmed empty
    FALLBACK = "fallback"  # has no bars of the first source; those of another one are stored
    PARTIAL = "partial"  # has minutes, but far fewer than other sessions of the symbol
    VENDOR_EMPTY = "vendor_empty"  # confirmed empty by enough answers
    EARLIER_TICKER = "earlier_ticker"  # before the symbol took its ticker; not requested without `formerly`
    NOT_ENTITLED = "not_entitled"  # not in the vendor's plan
    PRE_LISTING = "pre_listing"  # before the symbol's first day of trading: not a gap
    DELISTED = "delisted"  # after its last day: not a gap


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Consecutive sessions of one series that are not complete, for one reason.

    `attempts` is the highest number among the sessions, `next_attempt_at` (UTC) the earliest, None if no more attempts will
    be made. `explained`: another request is useless. `detail` adds to the reason, as a clause; it may be empty.
    """

    symbol: str
    timeframe: str
    days: DayRange
    sessions: int
    reason: Reason
    explained: bool
    attempts: int
    next_attempt_at: datetime | None
    detail: str = ""

    def due(self, now: datetime) -> bool:
        """Whether an attempt is due."""
        return not self.explained and self.next_attempt_at is not None and self.next_attempt_at <= now


@dataclass(frozen=True, slots=True)
class _State:
    reason: Reason
    explained: bool
    attempts: int
    next_attempt_at: datetime | None
    detail: str = ""

    def joins(self, other: _State) -> bool:
        return (self.reason, self.explained, self.detail) == (other.reason, other.explained, other.detail)

    def merged(self, other: _State) -> _State:
        """The state of a gap made of both."""
        due = [at for at in (self.next_attempt_at, other.next_attempt_at) if at is not None]
        attempts = max(self.attempts, other.attempts)
        return _State(self.reason, self.explained, attempts, min(due, default=None), self.detail)


@dataclass(frozen=True, slots=True)
class GapFinder:
    """Finds the gaps of the series of one market.

    calendar   holds its sessions
    fallbacks  the market's, in order
    today      the day to which the age of a session is measured that a fallback reaches back to
    """

    calendar: Calendar
    retries: Retries
    fallbacks: Sequence[Fallback] = ()
    today: date = date.max

    def gaps(
        self,
        symbol: str,
        timeframe: Timeframe,
        missing: Sequence[DayRange],
        incomplete: Mapping[date, SessionAnswer],
        listing: Listing = UNKNOWN,
    ) -> list[Gap]:
        """Return the gaps of a series, ascending.

        `missing` are days (disjoint, ascending) without bars of the series; `incomplete` the records of its source
        timeframe's sessions that were requested and are not complete.
        """
        sessions = self.calendar.sessions
        found: list[tuple[int, int, _State]] = []
        for first, after, state in self._runs(symbol, timeframe, missing, incomplete, listing):
            if found and found[-1][1] == first and found[-1][2].joins(state):
                begin, _, before = found.pop()
                found.append((begin, after, before.merged(state)))
            else:
                found.append((first, after, state))
        return [
            Gap(
                symbol,
                timeframe.name,
                DayRange(sessions[first], sessions[after - 1]),
                after - first,
                state.reason,
                state.explained,
                state.attempts,
                state.next_attempt_at,
                state.detail,
            )
            for first, after, state in found
        ]

    def state(self, answer: SessionAnswer, source: Timeframe) -> _State:
        """Return the state of a session of a source timeframe that was requested and is not complete."""
        explained, next_attempt = self.retries.explained(answer), self.retries.next_attempt(answer)
        if answer.refused:
            reason = Reason.NOT_ENTITLED
        elif answer.bars and not answer.filled_by:
            reason = Reason.PARTIAL
        else:
            reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
        detail = answer.detail
        if answer.filled_by:
            reason, detail = Reason.FALLBACK, f"filled by {answer.filled_by}; polygon: {reason.value}"
        fallback_at = self._fallback_at(answer, source)
        if fallback_at and next_attempt is None:
            explained, next_attempt = False, fallback_at
        return _State(reason, explained, answer.attempts, next_attempt, detail)

    def _fallback_at(self, answer: SessionAnswer, source: Timeframe) -> datetime | None:
        """Return when a fallback is asked again for a session; None if none before the one that filled it is."""
        for fallback in self.fallbacks if answer.fallbacks_due else ():
            if fallback.name == answer.filled_by:
                return None
            due = (answer.fallbacks_due or {}).get(fallback.name)
            if due and fallback.serves(source, answer.session, self.today):
                return due
        return None

    def _runs(
        self,
        symbol: str,
        timeframe: Timeframe,
        missing: Sequence[DayRange],
        incomplete: Mapping[date, SessionAnswer],
        listing: Listing,
    ) -> Iterator[tuple[int, int, _State]]:
        """Index ranges [first, after) of sessions in the same state, ascending."""
        sessions = self.calendar.sessions
        not_fetched = date.max if listing.unknown_at else listing.ticker_since or date.min
        start = bisect_left(sessions, self.calendar.first_week) if timeframe == WEEK_1 else 0
        thin = [day for day, answer in incomplete.items() if answer.bars]
        ranges = [*missing, *(DayRange(d, d) for d in thin if not any(d in r for r in missing))]
        for days in sorted(ranges):
            first, after = max(start, bisect_left(sessions, days.start)), bisect_right(sessions, days.end)
            if first < (until := bisect_left(sessions, not_fetched, first, after)):
                yield first, until, _not_fetched(symbol, listing)
                first = until
            for day in _recorded(timeframe, sessions[first:after], incomplete):
                at = bisect_left(sessions, day, first, after)
                if first < at:
                    yield first, at, self._never_requested(sessions[first])
                yield at, at + 1, self._of(day, timeframe.source, incomplete)
                first = at + 1
            if first < after:
                yield first, after, self._never_requested(sessions[first])

    def _of(self, day: date, source: Timeframe, incomplete: Mapping[date, SessionAnswer]) -> _State:
        if day in incomplete:
            return self.state(incomplete[day], source)
        # The day itself has bars: its week waits for other days.
        others = [self.state(incomplete[d], source) for d in _week(day) if d in incomplete]
        return min(others, key=lambda s: (s.explained, s.reason))

    def _never_requested(self, session: date) -> _State:
        due = self.calendar.hours.finished_at(session) + FIRST_ATTEMPT_DELAY
        return _State(Reason.MISSING, explained=False, attempts=0, next_attempt_at=due)


def _not_fetched(symbol: str, listing: Listing) -> _State:
    """The state of sessions whose ticker is unknown to the vendor, or was another instrument's."""
    if listing.unknown_at:
        due = listing.unknown_at + REFRESHED_AFTER
        return _State(Reason.MISSING, explained=False, attempts=0, next_attempt_at=due, detail=listing.sentence(symbol))
    detail = listing.sentence(symbol)
    return _State(Reason.EARLIER_TICKER, explained=True, attempts=0, next_attempt_at=None, detail=detail)


def _recorded(timeframe: Timeframe, sessions: Iterable[date], incomplete: Mapping[date, SessionAnswer]) -> list[date]:
    """The missing sessions whose state follows from the records of incomplete ones."""
    if not incomplete:
        return []
    if timeframe != WEEK_1:
        return [d for d in sessions if d in incomplete]
    weeks = {week_start(d) for d in incomplete}
    return [d for d in sessions if week_start(d) in weeks]


def _week(day: date) -> DayRange:
    start = week_start(day)
    return DayRange(start, start + 6 * ONE_DAY)


def unexplained(gaps: Iterable[Gap]) -> list[Gap]:
    """Return the gaps that are not explained."""
    return [gap for gap in gaps if not gap.explained]


def merge_timeframes(gaps: Iterable[Gap]) -> list[tuple[Gap, list[str]]]:
    """Merge gaps that differ by their timeframe only, and name the timeframes of each; unexplained gaps first."""
    alike: dict[Gap, list[Gap]] = {}
    for gap in sorted(gaps, key=lambda g: (g.explained, g.symbol, g.days)):
        alike.setdefault(replace(gap, timeframe="", next_attempt_at=None), []).append(gap)
    return [
        (
            replace(gap, next_attempt_at=min((g.next_attempt_at for g in same if g.next_attempt_at), default=None)),
            [g.timeframe for g in same],
        )
        for gap, same in alike.items()
    ]


def repair_command(symbols: Iterable[str], *markets: str) -> str:
    """Return the command that requests the gaps of these symbols now, or of all in their markets; empty without any."""
    names = list(dict.fromkeys(symbols))
    few = len(names) <= MOST_NAMED
    option = f"--symbols {','.join(names)}" if few else f"--markets {','.join(markets)}"
    return f"backfill repair {option}" if names else ""


def missing_gaps(gaps: Iterable[Gap]) -> list[Gap]:
    """Return the unexplained gaps that have no bars. Other checks cover partial sessions and those of fallbacks."""
    return [gap for gap in unexplained(gaps) if gap.reason not in {Reason.PARTIAL, Reason.FALLBACK}]


def spans_by_symbol(gaps: Iterable[Gap]) -> dict[str, DayRange]:
    """Return for each symbol the days from its first gap to its last."""
    found: dict[str, DayRange] = {}
    for gap in gaps:
        known = found.get(gap.symbol, gap.days)
        found[gap.symbol] = DayRange(min(known.start, gap.days.start), max(known.end, gap.days.end))
    return found


def most_missing_sessions(gaps: Iterable[Gap]) -> int:
    """Return the number of missing sessions of the series with the most."""
    count: dict[tuple[str, str], int] = {}
    for gap in gaps:
        count[gap.symbol, gap.timeframe] = count.get((gap.symbol, gap.timeframe), 0) + gap.sessions
    return max(count.values(), default=0)
