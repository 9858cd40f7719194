"""Looking up since when and until when symbols trade."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.errors import VendorError
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.ohlcv import SettledSeries

REFRESHED_AFTER = timedelta(days=6)
"""Before a week is over, so that a weekly look-up never finds yesterday's lateness in its way."""


class ListingSource(Protocol):
    """What this needs of a vendor's client."""

    async def listing(self, ticker: str) -> Listing:
        """First and last day of trading."""


def known_listings(store: Store, market: Market) -> dict[str, Listing]:
    """What the table says of a market's symbols, by name. Coins have no listing."""
    if market.kind is not Kind.STOCKS:
        return {}
    return {
        name: known.listing for name, known in ListingStore.beside(store).read([s.name for s in market.symbols]).items()
    }


def expected(store: Store, order: BackfillRequest) -> BackfillRequest:
    """An order without the sessions that the listings of its symbols exclude."""
    return order.within(known_listings(store, order.market))


def stale(
    symbols: Iterable[Symbol], known: Mapping[str, KnownListing], now: datetime, *, after: timedelta = REFRESHED_AFTER
) -> list[Symbol]:
    """The symbols that were never looked up, or longer ago than `after`."""
    return [s for s in symbols if s.name not in known or known[s.name].checked_at <= now - after]


def in_question(order: BackfillRequest, series: Sequence[SettledSeries]) -> list[Symbol]:
    """The symbols of a filled order that were answered with nothing before all that they have, or after it."""
    if order.market.kind is not Kind.STOCKS:
        return []
    return list({s.symbol: None for s in series if s.timeframe.source == s.timeframe and _bare_edge(s)})


def _bare_edge(series: SettledSeries) -> bool:
    asked = [series.answers[d] for d in series.wanted if d in series.answers and series.answers[d].answers]
    return bool(asked) and not (asked[0].bars and asked[-1].bars)


async def look_up_quietly(
    store: ListingStore,
    vendor: ListingSource,
    symbols: Collection[Symbol],
    clock: Callable[[], datetime],
    warn: Callable[[str], object],
) -> None:
    """Look up those of the symbols that were not lately; a failure is only told to `warn`, for nothing depends on it."""
    known = await asyncio.to_thread(store.read, [s.name for s in symbols]) if symbols else {}
    try:
        await look_up(store, vendor, stale(symbols, known, clock()), clock)
    except VendorError as failure:
        warn(f"Listing dates could not be looked up: {failure}")


async def look_up(
    store: ListingStore, vendor: ListingSource, symbols: Collection[Symbol], clock: Callable[[], datetime]
) -> None:
    """Ask for the listings of symbols, one after the other, and keep each. Raises VendorError at the first that fails."""
    for symbol in symbols:
        listing = await vendor.listing(symbol.ticker)
        await asyncio.to_thread(store.record, symbol.name, listing, clock())
