"""Update splits and dividends: which days are fetched, and which parts of the response can be trusted.

The corporate actions of the complete market since a day are fetched: a page or two instead of a request for each symbol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.polygon import ActionRecords
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, Lookup
from backfill_assets.domain.corporate_actions import (
    ActionChanges,
    ActionKind,
    CorporateAction,
    ListedActions,
)
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.universe import Market, Symbol

OVERLAP = timedelta(days=45)
"""How far before the last success is fetched again, for what the vendor lists late, corrects or withdraws."""


class CorporateActionSource(Protocol):
    """The part of a vendor's client that an update needs."""

    async def splits(self, since: date, until: date | None = None) -> ActionRecords:
        """Return the splits of all tickers."""

    async def dividends(self, since: date, until: date | None = None) -> ActionRecords:
        """Return the cash dividends of all tickers."""


@dataclass(frozen=True, slots=True)
class Update:
    """The result of an update.

    since     the first ex-date that was fetched
    changes   what was written
    dropped   how many rows of the responses could not be used, of any ticker
    warnings  which parts of the responses cannot be trusted, one sentence each
    """

    since: date
    changes: ActionChanges
    dropped: int
    warnings: tuple[str, ...]


async def update_corporate_actions(
    store: CorporateActionStore,
    vendor: CorporateActionSource,
    market: Market,
    clock: Callable[[], datetime],
    *,
    overlap: timedelta = OVERLAP,
    everything: bool = False,
) -> Update:
    """Fetch a market's corporate actions and write all changes or none. Raises VendorError and DatabaseUnavailable.

    Symbols of other markets and ex-dates before the first fetched day are not touched. `everything`: fetch since the market's
    first day.
    """
    names = [symbol.name for symbol in market.symbols]
    known = {} if everything else await asyncio.to_thread(store.lookups, names)
    since, now = first_day(market, known, overlap), clock()
    splits, dividends = await vendor.splits(since), await vendor.dividends(since)
    response = _Response(market, since)
    response.take(ActionKind.SPLIT, splits)
    response.take(ActionKind.DIVIDEND, dividends)
    zone = HOURS[market.kind].zone
    changes = await asyncio.to_thread(store.record, names, response.listed(), response.answered(), now, zone)
    return Update(since, changes, response.dropped, tuple(response.warnings))


def first_day(market: Market, known: Mapping[str, Lookup], overlap: timedelta = OVERLAP) -> date:
    """Return the first ex-date to fetch: `overlap` before the last success, or the market's first day if a symbol is new.

    A symbol is new if it was never fetched completely, not since the market's first day, or under another ticker.
    """
    lookups = [known.get(symbol.name) for symbol in market.symbols]
    oldest: date | None = None
    for symbol, lookup in zip(market.symbols, lookups, strict=True):
        if lookup is None or lookup.ticker != symbol.tickers or lookup.since > market.start:
            return market.start
        day = lookup.checked_at.astimezone(HOURS[market.kind].zone).date()
        oldest = day if oldest is None else min(day, oldest)
    return market.start if oldest is None else max(market.start, oldest - overlap)


class _Response:
    """The corporate actions of a market's symbols, and the symbols and kinds for which they are complete."""

    def __init__(self, market: Market, since: date) -> None:
        self._market, self._since = market, since
        self._symbols: dict[str, list[Symbol]] = {}
        for symbol in market.symbols:
            for ticker in {symbol.ticker, *(f.ticker for f in symbol.formerly)}:
                self._symbols.setdefault(ticker, []).append(symbol)
        self._actions: list[CorporateAction] = []
        self._complete = {(symbol.name, kind) for symbol in market.symbols for kind in ActionKind}
        self._unanswered: set[str] = set()
        self.dropped = 0
        self.warnings: list[str] = []

    def take(self, kind: ActionKind, answer: ActionRecords) -> None:
        dropped = answer.dropped
        for row in answer.rows:
            holders = (s for s in self._symbols.get(row.symbol, ()) if s.ticker_on(row.ex_date) == row.symbol)
            self._actions += [replace(row, symbol=holder.name) for holder in holders]
        self.dropped += len(dropped)
        everyone = self._market.symbols
        if not answer.rows and not dropped:
            # Every month has hundreds of either: a response without any is wrong.
            self._distrust(
                kind, everyone, f"Polygon lists no {kind} of any ticker since {self._since}, which is implausible"
            )
            self._unanswered |= {symbol.name for symbol in everyone}
        if unnamed := dropped.count(""):
            self._distrust(kind, everyone, f"The tickers of {unnamed} of Polygon's {kind}s cannot be read")
        broken = list(dict.fromkeys(symbol for ticker in dropped for symbol in self._symbols.get(ticker, ())))
        if broken:
            self._distrust(kind, broken, f"Some {kind}s of {', '.join(s.name for s in broken)} cannot be read")
            self._unanswered |= {symbol.name for symbol in broken}

    def _distrust(self, kind: ActionKind, symbols: Iterable[Symbol], what: str) -> None:
        self._complete -= {(symbol.name, kind) for symbol in symbols}
        self.warnings.append(f"{what}; none is marked as withdrawn.")

    def listed(self) -> ListedActions:
        return ListedActions(self._since, tuple(self._actions), frozenset(self._complete))

    def answered(self) -> list[Symbol]:
        return [symbol for symbol in self._market.symbols if symbol.name not in self._unanswered]
