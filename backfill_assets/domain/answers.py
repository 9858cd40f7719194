"""What the vendor answered for each session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import BadBar, Bars, clip, in_order
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.sessions import SessionBars, count_by_session, day_starts, session_rows


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """The record of one finished session of one series that was requested.

    bars          number of bars stored; 0 if the vendor returned none
    first, last   start of the first and the last bar, UTC; None without bars
    answers       how many times the vendor returned this number of bars, at growing intervals; 0 if it never answered
    failures      failed attempts since the last answer
    refused       whether the vendor's plan excludes the session
    partial       whether it has far fewer bars than other sessions of the symbol
    attempted_at  the last attempt that counts, UTC
    doubt         why the last answer is not taken as the complete session, None if it is
    partial_because  why the session is judged to be partial, None if it is not, or was judged before this was recorded
    shrunk_at     when an answer first lacked more than a tenth of the stored bars, UTC; None if the last one does not
    filled_by     the fallback whose bars are stored, None if they are the vendor's; the other fields speak of the vendor
    fallbacks_due  when each fallback is asked again that has failed or has had no bars, UTC, by name; None if none is
    witnessed     whether the market's witness has a bar of a session that has none
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
    doubt: str | None = None
    partial_because: str | None = None
    shrunk_at: datetime | None = None
    filled_by: str | None = None
    fallbacks_due: Mapping[str, datetime] | None = None
    witnessed: bool = False

    @property
    def complete(self) -> bool:
        """Whether the session has the vendor's bars, is not partial and not in doubt."""
        return self.bars > 0 and not self.partial and self.doubt is None and self.filled_by is None

    @property
    def detail(self) -> str:
        """Why the session is not complete; empty if that is not known."""
        evidence = "the witness has a bar" if self.witnessed and not self.bars else ""
        return self.doubt or self.partial_because or evidence

    @property
    def attempts(self) -> int:
        """The number of attempts that count."""
        return self.answers + self.failures


type Answers = Mapping[date, SessionAnswer]


def missing_sessions(sessions: Iterable[date], answers: Answers) -> list[date]:
    """Return the sessions without stored bars, in the given order."""
    return [s for s in sessions if s not in answers or answers[s].bars == 0]


@dataclass(frozen=True, slots=True)
class RejectedBar:
    """A bar that was left out of an answer: its session, its start (UTC) and the reason."""

    session: date
    start: datetime
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class CompleteSessions:
    """Finished sessions with all bars that the vendor has for them, written in one transaction."""

    sessions: tuple[date, ...]
    counts: tuple[SessionBars, ...]
    """The sessions that have bars."""
    bars: Bars
    rejected: tuple[RejectedBar, ...] = ()
    """The bars of these sessions that were left out."""
    unsure: Mapping[date, str] = field(default_factory=dict)
    """The sessions to which a bar may belong whose time is not known, and why it was left out."""

    @property
    def doubts(self) -> dict[date, str]:
        """Why sessions are in doubt: bars that are or may be of them were left out."""
        by_session: dict[date, list[RejectedBar]] = {}
        for bar in self.rejected:
            by_session.setdefault(bar.session, []).append(bar)
        doubts = {session: f"a bar that was left out may be of it: {reason}" for session, reason in self.unsure.items()}
        return doubts | {
            session: f"{len(bars)} bar{'' if len(bars) == 1 else 's'} left out: {bars[0].reason}"
            for session, bars in by_session.items()
        }

    @property
    def empty(self) -> tuple[date, ...]:
        """The sessions for which the vendor returned no bars."""
        with_bars = {c.session for c in self.counts}
        return tuple(s for s in self.sessions if s not in with_bars)


class PageCutter:
    """Cuts the pages of one range request into complete sessions. A session that continues on the next page is held back.

    Bars are sorted, duplicates removed, and bars outside the requested sessions dropped and counted in `dropped`.
    `one_bar`: a session has one bar, so that nothing is missing from a session with a bar.
    """

    def __init__(self, sessions: Sequence[date], zone: ZoneInfo, *, one_bar: bool = False) -> None:
        self._one_bar = one_bar
        self._sessions = tuple(sessions)
        self._zone = zone
        self._done = 0
        self._held_back = Bars.empty()
        self._rejected: list[RejectedBar] = []
        self._unsure: list[tuple[int, int, str]] = []
        self.dropped = 0

    def feed(self, page: Bars, *, more: bool, bad: Sequence[BadBar] = ()) -> CompleteSessions:
        """Return the sessions that this page completes; all remaining ones if there are no `more` pages.

        `bad` are rows of the page that were left out; each puts the sessions in doubt to which it may belong.
        """
        pending = self._sessions[self._done :]
        bars = self._inside(in_order(Bars.concat(self._held_back, page)), pending)
        self._reject(bad, pending)
        cut = len(pending)
        if more:
            # The page ends within the session of its last bar. Without a bar, no session is known to be complete.
            cut = int(session_rows(bars.timestamp[-1:], pending, self._zone)[0]) if len(bars) else 0
        completed = pending[:cut]
        edge = len(bars)
        if cut < len(pending):
            edge = int(np.searchsorted(bars.timestamp, day_starts(pending[cut : cut + 1], self._zone)[0]))
        ready, self._held_back = bars.take(slice(None, edge)), bars.take(slice(edge, None))
        self._done += cut
        rejected = tuple(b for b in self._rejected if cut and b.session <= completed[-1])
        self._rejected = self._rejected[len(rejected) :]
        counts = tuple(count_by_session(ready, completed, self._zone))
        return CompleteSessions(completed, counts, ready, rejected, self._unsure_of(completed, counts))

    def _unsure_of(self, sessions: Sequence[date], counts: Sequence[SessionBars]) -> dict[date, str]:
        if not self._unsure:
            return {}
        if self._one_bar:
            with_bars = {c.session for c in counts}
            sessions = [s for s in sessions if s not in with_bars]
        starts = day_starts(sessions, self._zone).tolist()
        ends = day_starts([s + ONE_DAY for s in sessions], self._zone).tolist()
        return {
            session: reason
            for session, start, end in zip(sessions, starts, ends, strict=True)
            for first, last, reason in self._unsure
            if start <= last and first < end
        }

    def _reject(self, bad: Sequence[BadBar], pending: Sequence[date]) -> None:
        if not bad:
            return
        self._unsure += [(*bar.between, bar.reason) for bar in bad if bar.between]
        starts = np.array([bar.timestamp for bar in bad], dtype=np.int64)
        for bar, row in zip(bad, session_rows(starts, pending, self._zone).tolist(), strict=True):
            if row < 0:
                self.dropped += 1
            else:
                at = datetime.fromtimestamp(bar.timestamp / 1000, UTC)
                self._rejected.append(RejectedBar(pending[row], at, bar.reason))
        self._rejected.sort(key=lambda bar: bar.start)

    def _inside(self, bars: Bars, sessions: Sequence[date]) -> Bars:
        if not sessions:
            return Bars.empty()
        first, after = day_starts([sessions[0], sessions[-1] + ONE_DAY], self._zone)
        kept = clip(bars, int(first), int(after))
        kept = kept.take(session_rows(kept.timestamp, sessions, self._zone) >= 0)
        self.dropped += len(bars) - len(kept)
        return kept
