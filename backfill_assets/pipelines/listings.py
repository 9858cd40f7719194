"""Look up the first and the last day on which symbols trade."""

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
"""Less than a week, so that a weekly run refreshes all listings even if the last one was late."""


class ListingSource(Protocol):
    """The part of a vendor's client that a look-up needs."""

    async def listing(self, ticker: str) -> Listing:
        """Return the first and the last day of trading."""


def known_listings(store: Store, market: Market) -> dict[str, Listing]:
    """Read the known listings of a market by symbol name. Crypto has none."""
    if market.kind is not Kind.STOCKS:
        return {}
    known = ListingStore.beside(store).read([s.name for s in market.symbols])
    return {name: one.listing for name, one in known.items()}


def expected(store: Store, request: BackfillRequest) -> BackfillRequest:
    """Return a request without the sessions that the known listings exclude."""
    return request.within(known_listings(store, request.market))


def stale(
    symbols: Iterable[Symbol], known: Mapping[str, KnownListing], now: datetime, *, after: timedelta = REFRESHED_AFTER
) -> list[Symbol]:
    """Return the symbols whose listing was never looked up, or longer than `after` ago."""
    return [s for s in symbols if s.name not in known or known[s.name].checked_at <= now - after]


def in_question(request: BackfillRequest, series: Sequence[SettledSeries]) -> list[Symbol]:
    """Return the symbols whose first or last fetched session has no bars: they may have traded later or no longer."""
    if request.market.kind is not Kind.STOCKS:
        return []
    return list({s.symbol: None for s in series if s.timeframe.source == s.timeframe and _bare_edge(s)})


def _bare_edge(series: SettledSeries) -> bool:
    fetched = [series.answers[d] for d in series.wanted if d in series.answers and series.answers[d].answers]
    return bool(fetched) and not (fetched[0].bars and fetched[-1].bars)


async def look_up_stale(
    store: ListingStore, vendor: ListingSource, symbols: Collection[Symbol], clock: Callable[[], datetime]
) -> str | None:
    """Look up the stale listings of symbols; return a warning if that fails, because nothing depends on it."""
    known = await asyncio.to_thread(store.read, [s.name for s in symbols]) if symbols else {}
    try:
        await look_up(store, vendor, stale(symbols, known, clock()), clock)
    except VendorError as failure:
        return f"Listing dates could not be looked up: {failure}"
    return None


async def look_up(
    store: ListingStore, vendor: ListingSource, symbols: Collection[Symbol], clock: Callable[[], datetime]
) -> None:
    """Look up the listings of symbols one after another and store each. Raises VendorError at the first failure."""
    for symbol in symbols:
        listing = await vendor.listing(symbol.ticker)
        await asyncio.to_thread(store.record, symbol.name, listing, clock())
