"""Failures of which it is not yet plain whose they are: one series', or the whole run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from backfill_assets.domain.errors import NotEntitled, VendorUnreachable
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.universe import Symbol

type Left = Mapping[Symbol, set[date]]
"""The sessions of a request that were not answered, by symbol."""

_ENOUGH = 3
"""Requests in a row that nobody answers, each tried as often as the client tries; or symbols that the plan refuses while
nothing was ever given: the next ones would fare no better."""


class Note(Protocol):
    """Writes sessions of a request down as tried; `refused` where the plan does not have them."""

    async def __call__(self, request: ApiCall, left: Left, *, refused: bool) -> None:
        """Write it."""


class FailurePolicy:
    """The doubtful failures of one run over `requests`, for one event loop."""

    def __init__(self, requests: Sequence[ApiCall], note: Note) -> None:
        self._note = note
        self._silent_enough = min(_ENOUGH, len(requests))
        self._refused_enough = min(_ENOUGH, len({symbol for request in requests for symbol in request.symbols}))
        self._unheard: list[tuple[ApiCall, Left]] = []
        self._held: list[tuple[ApiCall, Left, bool]] = []
        self._refusals: dict[Symbol, NotEntitled] = {}
        self._given = False

    def unheard(self, request: ApiCall, left: Left, silence: VendorUnreachable) -> None:
        """A request that nobody answered. Raises `silence` where it is one too many in a row."""
        self._unheard.append((request, left))
        if len(self._unheard) >= self._silent_enough:
            raise silence

    async def heard(self) -> None:
        """Somebody answered: what nobody answered before was the fault of its moment."""
        unheard, self._unheard = self._unheard, []
        for request, left in unheard:
            await self._note(request, left, refused=False)

    async def refused(self, request: ApiCall, left: Left, refusal: NotEntitled, *, for_good: bool) -> None:
        """A request that the plan does not include; `for_good` where it will not include it tomorrow either.

        Raises `refusal` where nothing was ever given, and as many symbols are refused as show that nothing will be.
        """
        await self.tried(request, left, refused=for_good)
        if not self._given:
            self._refusals |= dict.fromkeys(left, refusal)
            if for_good:
                self._end_where_all_is_refused()

    async def tried(self, request: ApiCall, left: Left, *, refused: bool) -> None:
        """Note the sessions as tried, once it is plain that the plan gives anything at all."""
        if self._given:
            await self._note(request, left, refused=refused)
        else:
            self._held.append((request, left, refused))

    async def given(self) -> None:
        """The plan gives something of the run's symbols: what it refused was no more than that."""
        self._given = True
        self._refusals.clear()
        held, self._held = self._held, []
        for request, left, refused in held:
            await self._note(request, left, refused=refused)

    async def end(self) -> None:
        """There are no more requests to judge by. Raises NotEntitled where the plan gave nothing and refused enough."""
        await self.heard()
        self._end_where_all_is_refused()
        held, self._held = self._held, []
        for request, left, _ in held:
            await self._note(request, left, refused=False)

    def _end_where_all_is_refused(self) -> None:
        if self._refusals and len(self._refusals) >= self._refused_enough:
            raise next(iter(self._refusals.values()))
