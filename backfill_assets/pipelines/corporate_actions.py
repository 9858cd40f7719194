"""Keeping splits and dividends: what is asked for, and what of the answer can be believed.

The vendor is asked for the whole market's events since a day: a page or two, not a request a symbol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.polygon import ActionRecords
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, Lookup
from backfill_assets.domain.corporate_actions import (
    ActionChanges,
    ActionKind,
    CorporateAction,
    Dividend,
    ListedActions,
    Split,
    to_corporate_action,
)
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.universe import Market, Symbol

OVERLAP = timedelta(days=45)
"""So far before the last success is asked for again: for what the vendor lists late, mends or calls off."""


class ActionSource(Protocol):
    """What this needs of a vendor's client."""

    async def splits(self, since: date, until: date | None = None) -> ActionRecords[Split]:
        """The whole market's splits."""

    async def dividends(self, since: date, until: date | None = None) -> ActionRecords[Dividend]:
        """The whole market's cash dividends."""


@dataclass(frozen=True, slots=True)
class Update:
    """What came of asking.

    since     the first ex-date that was asked for
    changes   what was written
    dropped   how many rows of the answers could not be used, of whatever symbol
    warnings  what the answer cannot be believed in, one sentence each
    """

    since: date
    changes: ActionChanges
    dropped: int
    warnings: tuple[str, ...]


async def update_corporate_actions(
    store: CorporateActionStore,
    vendor: ActionSource,
    market: Market,
    clock: Callable[[], datetime],
    *,
    overlap: timedelta = OVERLAP,
    everything: bool = False,
) -> Update:
    """Ask for a market's events and write what changed, whole or not at all. Raises VendorError and DatabaseUnavailable.

    Symbols of other markets are not touched, and neither are events before the day that is asked from. `everything`: since
    the market's first day.
    """
    names = [symbol.name for symbol in market.symbols]
    known = {} if everything else await asyncio.to_thread(store.lookups, names)
    since, now = first_day(market, known, overlap), clock()
    splits, dividends = await vendor.splits(since), await vendor.dividends(since)
    reading = _Reading(market, since)
    reading.take(ActionKind.SPLIT, splits)
    reading.take(ActionKind.DIVIDEND, dividends)
    zone = HOURS[market.kind].zone
    changes = await asyncio.to_thread(store.record, names, reading.listed(), reading.answered(), now, zone)
    return Update(since, changes, reading.dropped, tuple(reading.warnings))


def first_day(market: Market, known: Mapping[str, Lookup], overlap: timedelta = OVERLAP) -> date:
    """From which ex-date on to ask: so far before the last success, but since the market's first day where a symbol is new.

    A symbol is new where it was never answered whole, not from that day on, or as another ticker.
    """
    lookups = [known.get(symbol.name) for symbol in market.symbols]
    oldest: date | None = None
    for symbol, lookup in zip(market.symbols, lookups, strict=True):
        if lookup is None or lookup.ticker != symbol.ticker or lookup.since > market.start:
            return market.start
        day = lookup.checked_at.astimezone(HOURS[market.kind].zone).date()
        oldest = day if oldest is None else min(day, oldest)
    return market.start if oldest is None else max(market.start, oldest - overlap)


class _Reading:
    """An answer in the making: the events of a market's symbols, and which of them it is whole for."""

    def __init__(self, market: Market, since: date) -> None:
        self._market, self._since = market, since
        self._names: dict[str, list[str]] = {}
        for symbol in market.symbols:
            self._names.setdefault(symbol.ticker, []).append(symbol.name)
        self._events: list[CorporateAction] = []
        self._whole = {(symbol.name, kind) for symbol in market.symbols for kind in ActionKind}
        self._unanswered: set[str] = set()
        self.dropped = 0
        self.warnings: list[str] = []

    def take(self, kind: ActionKind, answer: ActionRecords[Split] | ActionRecords[Dividend]) -> None:
        dropped = list(answer.dropped)
        for row in answer.rows:
            for name in self._names.get(row.ticker, ()):
                try:
                    self._events.append(to_corporate_action(name, row))
                except ValueError:
                    dropped.append(row.ticker)
        self.dropped += len(dropped)
        everyone = self._market.symbols
        if not answer.rows and not dropped:
            # Any month of the market has hundreds of either: an answer without one is a fault of the moment.
            self._doubt(
                kind, everyone, f"Polygon lists no {kind} of any ticker since {self._since}, which cannot be all"
            )
            self._unanswered |= {symbol.name for symbol in everyone}
        if unnamed := dropped.count(""):
            self._doubt(kind, everyone, f"The tickers of {unnamed} of Polygon's {kind}s cannot be read")
        broken = [symbol for symbol in everyone if symbol.ticker in dropped]
        if broken:
            self._doubt(kind, broken, f"Some {kind}s of {', '.join(s.name for s in broken)} cannot be read")
            self._unanswered |= {symbol.name for symbol in broken}

    def _doubt(self, kind: ActionKind, symbols: Iterable[Symbol], what: str) -> None:
        self._whole -= {(symbol.name, kind) for symbol in symbols}
        self.warnings.append(f"{what}; none of theirs is called withdrawn.")

    def listed(self) -> ListedActions:
        return ListedActions(self._since, tuple(self._events), frozenset(self._whole))

    def answered(self) -> list[Symbol]:
        return [symbol for symbol in self._market.symbols if symbol.name not in self._unanswered]
