"""The listing dates of symbols."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.listings import Listing

SQL = statements("backfill_assets.adapters.store", "listings.sql")


@dataclass(frozen=True, slots=True)
class KnownListing:
    """A symbol's listing, and when it was requested from the vendor (UTC)."""

    listing: Listing
    checked_at: datetime


class ListingStore(Store):
    """The table `listings`."""

    def read(self, symbols: Iterable[str]) -> dict[str, KnownListing]:
        """Return the stored listings of the symbols."""
        values = {"symbols": list(symbols)}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["listings"], values).fetchall())
        return {symbol: KnownListing(Listing(first, last), checked) for symbol, first, last, checked in rows}

    def record(self, symbol: str, listing: Listing, checked_at: datetime) -> None:
        """Store the listing of a symbol."""
        values = {"symbol": symbol, "listed": listing.listed, "delisted": listing.delisted, "checked_at": checked_at}
        self._transaction(lambda c: c.execute(SQL["record_listing"], values))
