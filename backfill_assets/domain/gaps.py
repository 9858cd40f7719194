"""Gaps: expected sessions that are not whole, as ranges, each with its reason and its next attempt."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import WEEK_1, Timeframe

WARN_ABOVE, ERROR_ABOVE = 1, 7
"""Sessions that one series may lack: more than one is a warning, more than seven are critical."""

FIRST_ATTEMPT_DELAY = timedelta(hours=6)
"""A session that was never asked for falls due so long after its end: the nightly run asks for all symbols at once before."""


class Reason(StrEnum):
    """Why a session is not whole, or was not to be expected."""

    MISSING = "missing"  # never asked for, failed, or not yet confirmed empty
    PARTIAL = "partial"  # some minutes, far fewer than the symbol has in other sessions
    VENDOR_EMPTY = "vendor_empty"  # asked for and answered with nothing, often enough
    NOT_ENTITLED = "not_entitled"  # the vendor's plan does not reach back so far
    PRE_LISTING = "pre_listing"  # before the symbol's first day of trading: no gap
    DELISTED = "delisted"  # after its last: no gap


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Neighbouring sessions of one series that are not whole, for one reason.

    `attempts` is that of the session most often asked for; `next_attempt_at` (UTC) that of the one that falls due first,
    None where all were asked for often enough. `explained`: asking again is of no use.
    """

    symbol: str
    timeframe: str
    days: DayRange
    sessions: int
    reason: Reason
    explained: bool
    attempts: int
    next_attempt_at: datetime | None

    def due(self, now: datetime) -> bool:
        """Whether to ask for it now."""
        return not self.explained and self.next_attempt_at is not None and self.next_attempt_at <= now


@dataclass(frozen=True, slots=True)
class _State:
    reason: Reason
    explained: bool
    attempts: int
    next_attempt_at: datetime | None

    def touches(self, other: _State) -> bool:
        return (self.reason, self.explained) == (other.reason, other.explained)

    def with_(self, other: _State) -> _State:
        """The state of a stretch that begins in this one and goes on in the other."""
        due = [at for at in (self.next_attempt_at, other.next_attempt_at) if at is not None]
        return _State(self.reason, self.explained, max(self.attempts, other.attempts), min(due, default=None))


@dataclass(frozen=True, slots=True)
class GapFinder:
    """Finds the gaps of the series of one market. `calendar` holds its sessions."""

    calendar: Calendar
    retries: Retries

    def gaps(
        self, symbol: str, timeframe: Timeframe, lacking: Sequence[DayRange], incomplete: Mapping[date, SessionAnswer]
    ) -> list[Gap]:
        """The gaps of a series, ascending.

        `lacking` are the days (disjoint, ascending) among whose sessions the series has no bars; `incomplete` what stands
        recorded of its source's sessions that were asked for and are not whole.
        """
        sessions = self.calendar.sessions
        found: list[tuple[int, int, _State]] = []
        for first, after, state in self._stretches(timeframe, lacking, incomplete):
            if found and found[-1][1] == first and found[-1][2].touches(state):
                begin, _, before = found.pop()
                found.append((begin, after, before.with_(state)))
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
            )
            for first, after, state in found
        ]

    def state(self, answer: SessionAnswer) -> _State:
        """How a session stands that was asked for and is not whole."""
        explained = self.retries.explained(answer)
        if answer.refused:
            reason = Reason.NOT_ENTITLED
        elif answer.bars:
            reason = Reason.PARTIAL
        else:
            reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
        return _State(reason, explained, answer.attempts, self.retries.next_attempt(answer))

    def _stretches(
        self, timeframe: Timeframe, lacking: Sequence[DayRange], incomplete: Mapping[date, SessionAnswer]
    ) -> Iterator[tuple[int, int, _State]]:
        """Index ranges [first, after) of sessions that stand alike, ascending."""
        sessions = self.calendar.sessions
        thin = [day for day, answer in incomplete.items() if answer.bars]
        ranges = [*lacking, *(DayRange(d, d) for d in thin if not any(d in r for r in lacking))]
        for days in sorted(ranges):
            first, after = bisect_left(sessions, days.start), bisect_right(sessions, days.end)
            told = sorted(_told(timeframe, sessions[first:after], incomplete))
            for day in told:
                at = bisect_left(sessions, day, first, after)
                if first < at:
                    yield first, at, self._never_asked(sessions[first])
                yield at, at + 1, self._of(day, incomplete)
                first = at + 1
            if first < after:
                yield first, after, self._never_asked(sessions[first])

    def _of(self, day: date, incomplete: Mapping[date, SessionAnswer]) -> _State:
        if day in incomplete:
            return self.state(incomplete[day])
        # The day itself is there: its week waits for others.
        others = [self.state(incomplete[d]) for d in _week(day) if d in incomplete]
        return min(others, key=lambda s: (s.explained, s.reason))

    def _never_asked(self, session: date) -> _State:
        due = self.calendar.hours.finished_at(session) + FIRST_ATTEMPT_DELAY
        return _State(Reason.MISSING, explained=False, attempts=0, next_attempt_at=due)


def _told(timeframe: Timeframe, sessions: Iterable[date], incomplete: Mapping[date, SessionAnswer]) -> list[date]:
    """Those of the lacking sessions that what stands recorded says something of."""
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
    """The gaps that something is still to be done about."""
    return [gap for gap in gaps if not gap.explained]


def missing_gaps(gaps: Iterable[Gap]) -> list[Gap]:
    """The unexplained gaps that count as missing: a partial session has bars, and the check of the minutes warns of it."""
    return [gap for gap in unexplained(gaps) if gap.reason is not Reason.PARTIAL]


def spans_by_symbol(gaps: Iterable[Gap]) -> dict[str, DayRange]:
    """For each symbol the days from the first of its gaps to the last."""
    found: dict[str, DayRange] = {}
    for gap in gaps:
        known = found.get(gap.symbol, gap.days)
        found[gap.symbol] = DayRange(min(known.start, gap.days.start), max(known.end, gap.days.end))
    return found


def most_missing_sessions(gaps: Iterable[Gap]) -> int:
    """How many sessions the series that lacks most lacks."""
    count: dict[tuple[str, str], int] = {}
    for gap in gaps:
        count[gap.symbol, gap.timeframe] = count.get((gap.symbol, gap.timeframe), 0) + gap.sessions
    return max(count.values(), default=0)
