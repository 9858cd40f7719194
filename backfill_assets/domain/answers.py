"""What the vendor has answered, session by session, and what is therefore still missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import Bars, clip, in_order
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.sessions import SessionBars, count_by_session, day_starts, session_rows


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """What stands recorded of one finished session of one series that was asked for.

    bars         how many are stored; 0 where none were answered
    first, last  start of the first and the last bar, UTC; None where there are none
    answers      how often the vendor gave this same number of bars, at growing intervals; 0 where it never answered
    failures     how often it could not be asked successfully since
    refused      whether the vendor's plan does not include it
    partial      whether its bars are far fewer than the symbol has in other sessions
    attempted_at     the last attempt that counts, UTC
    """

    session: date
    bars: int
    first: datetime | None
    last: datetime | None
    answers: int
    failures: int
    refused: bool
    partial: bool
    attempted_at: datetime

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wish for."""
        return self.bars > 0 and not self.partial

    @property
    def attempts(self) -> int:
        """How often it was asked for, as far as it counts."""
        return self.answers + self.failures


type Answers = Mapping[date, SessionAnswer]


def missing_sessions(sessions: Iterable[date], answers: Answers) -> list[date]:
    """The sessions that no bars are stored for. Ascending if `sessions` is."""
    return [s for s in sessions if s not in answers or answers[s].bars == 0]


@dataclass(frozen=True, slots=True, eq=False)
class CompleteSessions:
    """Finished sessions with every bar that the vendor has of them: what one transaction writes."""

    sessions: tuple[date, ...]
    counts: tuple[SessionBars, ...]
    """The sessions that have bars; the others were answered with none."""
    bars: Bars

    @property
    def empty(self) -> tuple[date, ...]:
        """The sessions answered with no bars."""
        full = {c.session for c in self.counts}
        return tuple(s for s in self.sessions if s not in full)


class PageCutter:
    """Cuts the pages of one range request into whole sessions: a session that goes on in the next page waits for it.

    Bars are put in order, doubled ones removed, and bars outside the asked sessions dropped and counted in `dropped`.
    """

    def __init__(self, sessions: Sequence[date], zone: ZoneInfo) -> None:
        self._sessions = tuple(sessions)
        self._zone = zone
        self._done = 0
        self._waiting = Bars.empty()
        self.dropped = 0

    def feed(self, page: Bars, *, more: bool) -> CompleteSessions:
        """The sessions that this page completes; all that are left where no more pages follow."""
        pending = self._sessions[self._done :]
        bars = self._inside(in_order(Bars.concat(self._waiting, page)), pending)
        cut = len(pending)
        if more:
            # The page ends within the session of its last bar. Without a bar of ours, nothing is known to be complete.
            cut = int(session_rows(bars.take(slice(-1, None)), pending, self._zone)[0]) if len(bars) else 0
        whole = pending[:cut]
        edge = len(bars)
        if cut < len(pending):
            edge = int(np.searchsorted(bars.timestamp, day_starts(pending[cut : cut + 1], self._zone)[0]))
        complete, self._waiting = bars.take(slice(None, edge)), bars.take(slice(edge, None))
        self._done += cut
        return CompleteSessions(whole, tuple(count_by_session(complete, whole, self._zone)), complete)

    def _inside(self, bars: Bars, sessions: Sequence[date]) -> Bars:
        if not sessions:
            return Bars.empty()
        first, after = day_starts([sessions[0], sessions[-1] + ONE_DAY], self._zone)
        kept = clip(bars, int(first), int(after))
        kept = kept.take(session_rows(kept, sessions, self._zone) >= 0)
        self.dropped += len(bars) - len(kept)
        return kept
