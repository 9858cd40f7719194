"""Decide what a failed call means: a failure of its own series, or of the complete run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from backfill_assets.domain.answers import Answers
from backfill_assets.domain.errors import NotEntitled, VendorUnreachable
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.retries import CONFIRMED_BY
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Symbol

_ENOUGH = 3
"""Calls in a row that got no response, each after all its retries, or symbols that the vendor's plan refuses before it has
allowed any: further calls would fail too."""

RECENT = timedelta(days=7)
"""How long an answer shows what the plan includes: the plan's first day moves with the calendar."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Sessions of a call that were not answered, by symbol; `refused`: the vendor's plan does not include them."""

    call: ApiCall
    sessions: Mapping[Symbol, set[date]]
    refused: bool = False

    @property
    def series(self) -> list[tuple[Symbol, Timeframe]]:
        """The symbols and the source timeframe of the sessions."""
        return [(symbol, self.call.timeframe) for symbol in self.sessions]


class FailurePolicy:
    """The failures of one run over `calls` that are not decided yet.

    Its methods return the failures that are now decided and have to be recorded. An undecided failure is not recorded: the
    sessions of a run that fails completely count as never requested. A refusal is decided at the end, with everything that
    the run has fetched as evidence against it.
    """

    def __init__(self, calls: Sequence[ApiCall]) -> None:
        self._most_unreachable = min(_ENOUGH, len(calls))
        self._most_refused = min(_ENOUGH, len({symbol for call in calls for symbol in call.symbols}))
        self._unreachable: list[Failure] = []
        self._refused: list[Failure] = []
        self._refusals: dict[Symbol, NotEntitled] = {}
        self._entitled = False
        self.refused_calls: Counter[Symbol] = Counter()

    @property
    def undecided(self) -> list[Failure]:
        """The failures that are not decided yet."""
        return [*self._unreachable, *self._refused]

    def unreachable(self, failure: Failure, error: VendorUnreachable) -> None:
        """Note a call that got no response. Raises `error` at the last one allowed in a row."""
        self._unreachable.append(failure)
        if len(self._unreachable) >= self._most_unreachable:
            raise error

    def reached(self) -> list[Failure]:
        """Note a response: earlier calls without one failed on their own."""
        decided, self._unreachable = self._unreachable, []
        return decided

    def refused(self, failure: Failure, error: NotEntitled) -> list[Failure]:
        """Note a call that the vendor's plan does not include.

        Raises `error` if the plan has not allowed anything and refuses so many symbols that nothing else can be expected.
        """
        if not self._entitled:
            self._refusals |= dict.fromkeys(failure.sessions, error)
            if failure.refused:
                self._raise_if_all_refused()
        return self.failed(failure)

    def failed(self, failure: Failure) -> list[Failure]:
        """Note a refused call, which is recorded once the plan is known to allow something, or at the end if `refused`."""
        self.refused_calls.update(list(failure.sessions))
        if self._entitled and not failure.refused:
            return [failure]
        self._refused.append(failure)
        return []

    def entitled(self) -> list[Failure]:
        """Note that the plan allows something: what it refused before are single failures."""
        self._entitled = True
        self._refusals.clear()
        decided = [failure for failure in self._refused if not failure.refused]
        self._refused = [failure for failure in self._refused if failure.refused]
        return decided

    def finish(self) -> list[Failure]:
        """Decide the rest after the last call. Raises NotEntitled if the plan allowed nothing and refused enough symbols."""
        self._raise_if_all_refused()
        decided, self._refused = self._refused, []
        return decided if self._entitled else [replace(failure, refused=False) for failure in decided]

    def _raise_if_all_refused(self) -> None:
        if self._refusals and len(self._refusals) >= self._most_refused:
            raise next(iter(self._refusals.values()))


def mistaken(
    sessions: Collection[date], reach: date | None, *, has_bars: bool, refused_calls: int, known: Answers
) -> set[date]:
    """Return the sessions that the vendor's plan refused and includes after all: one answer must not close them.

    A plan's history is a span of days up to today. If the vendor has recently sent bars of any symbol for a session, the plan
    reaches back to it, so that a refusal of the same or of a later session is a mistake. But a plan may exclude a symbol: if
    there are no bars of a symbol, its refusals are believed once there are two of them, in this run or an earlier one.

    reach          the first session with bars of any symbol of the market that arrived within `RECENT`
    has_bars       whether bars of this symbol are stored
    refused_calls  how many of its calls were refused in this run
    known          what was recorded of it before
    """
    included = {s for s in sessions if reach and s >= reach}
    if has_bars or not included:
        return included
    return set() if refused_calls >= CONFIRMED_BY else {s for s in included if s not in known or not known[s].failures}
