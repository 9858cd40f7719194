"""Look up the first and the last day on which symbols trade, and since when their tickers are theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.errors import KeyRefused, VendorError
from backfill_assets.domain.listings import REFRESHED_AFTER, Listing, TickerChange, likely_names, ticker_taken
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market, Symbol, default_ticker
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.ohlcv import SettledSeries


class ListingSource(Protocol):
    """The part of a vendor's client that a look-up needs."""

    async def listing(self, ticker: str) -> Listing | None:
        """Return the first and the last day of trading, None if the ticker is unknown."""

    async def ticker_changes(self, ticker: str) -> tuple[TickerChange, ...]:
        """Return the tickers that the present holder of a ticker took, ascending by day."""


def known_listings(store: Store, market: Market) -> dict[str, Listing]:
    """Read the known listings of a market by symbol name. Of crypto, only unknown tickers are known."""
    known = ListingStore.beside(store).read([s.name for s in market.symbols])
    listings = {s.name: _applied(s, known[s.name].listing) for s in market.symbols if _is_current(s, known)}
    return {name: one for name, one in listings.items() if market.kind is Kind.STOCKS or one.unknown_at}


def _is_current(symbol: Symbol, known: Mapping[str, KnownListing]) -> bool:
    return symbol.name in known and known[symbol.name].ticker in {None, symbol.ticker}


def _applied(symbol: Symbol, listing: Listing) -> Listing:
    """Return a listing as far as `formerly` in the universe does not say otherwise."""
    if not symbol.formerly:
        return listing
    refuted = listing.listed and listing.listed > symbol.formerly[0].until
    return replace(listing, listed=None if refuted else listing.listed, ticker_since=None)


def expected(store: Store, request: BackfillRequest) -> BackfillRequest:
    """Return a request without the sessions that the known listings exclude."""
    return request.within(known_listings(store, request.market))


def stale(
    symbols: Iterable[Symbol], known: Mapping[str, KnownListing], now: datetime, *, after: timedelta = REFRESHED_AFTER
) -> list[Symbol]:
    """Return the symbols to look up: never looked up, not under this ticker, longer than `after` ago, or unknown then."""
    return [
        s
        for s in symbols
        if not _is_current(s, known) or known[s.name].checked_at <= now - after or known[s.name].listing.unknown_at
    ]


def in_question(request: BackfillRequest, series: Sequence[SettledSeries]) -> list[Symbol]:
    """Return the symbols that may be traded later or no longer, or whose ticker may be unknown.

    Their first or last fetched session has no bars; in crypto, none has.
    """
    doubted = _bare_edge if request.market.kind is Kind.STOCKS else _bare
    return list({s.symbol: None for s in series if s.timeframe.source == s.timeframe and doubted(s)})


def _fetched(series: SettledSeries) -> list[bool]:
    """Return for each fetched session whether it has bars."""
    return [series.answers[d].bars > 0 for d in series.wanted if d in series.answers and series.answers[d].answers]


def _bare_edge(series: SettledSeries) -> bool:
    fetched = _fetched(series)
    return bool(fetched) and not (fetched[0] and fetched[-1])


def _bare(series: SettledSeries) -> bool:
    fetched = _fetched(series)
    return bool(fetched) and not any(fetched)


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
    """Look up the listings of symbols one after another and store each. Raises VendorError at the first failure.

    Changes of tickers come from an experimental endpoint: after its first failure the stored ones are kept.
    """
    served = True
    for symbol in symbols:
        listing = await vendor.listing(symbol.ticker)
        changes, likely = None, ""
        if listing is None:
            likely = await _likely(vendor, symbol)
        elif served and not symbol.ticker.startswith("X:"):
            try:
                changes = await vendor.ticker_changes(symbol.ticker)
            except KeyRefused:
                raise
            except VendorError:
                served = False
        taken = None if symbol.formerly else ticker_taken(changes or (), symbol.ticker)
        await asyncio.to_thread(
            store.record,
            symbol.name,
            listing,
            clock(),
            ticker=symbol.ticker,
            likely=likely,
            changes=changes,
            taken=taken[0] if taken else None,
        )


async def _likely(vendor: ListingSource, symbol: Symbol) -> str:
    """Return the first of the likely symbols that the vendor knows, or an empty text."""
    kind = Kind.CRYPTO if symbol.ticker.startswith("X:") else Kind.STOCKS
    for name in likely_names(symbol):
        if await vendor.listing(default_ticker(kind, name)) is not None:
            return name
    return ""
