"""The listing dates of symbols, the changes of their tickers, and long holes in their bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.listings import LONG_HOLE, UNKNOWN, Listing, LongHole, TickerChange, ticker_taken
from backfill_assets.domain.timeframes import DAY_1, TIMEFRAMES, sources

SQL = statements("backfill_assets.adapters.store", "listings.sql")


@dataclass(frozen=True, slots=True)
class KnownListing:
    """A symbol's listing, when it was looked up (UTC), and under which ticker; None in rows of older versions."""

    listing: Listing
    checked_at: datetime
    ticker: str | None = None


class ListingStore(Store):
    """The tables `listings` and `ticker_changes`."""

    def read(self, symbols: Iterable[str]) -> dict[str, KnownListing]:
        """Return the stored listings of the symbols, with the days of their stored bars."""
        values = {"symbols": list(symbols), "sources": [t.name for t in sources(TIMEFRAMES.values())]}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["listings"], values).fetchall())
        return {symbol: _known(row) for symbol, *row in rows}

    def record(
        self,
        symbol: str,
        listing: Listing | None,
        checked_at: datetime,
        *,
        ticker: str | None = None,
        likely: str = "",
        changes: Sequence[TickerChange] | None = None,
        taken: date | None = None,
    ) -> None:
        """Store the listing of a symbol, None if the vendor does not know its ticker; `changes` replace the stored ones.

        Empty answers are forgotten: those before `taken`, when the ticker was another company's; all of an unknown ticker if
        the symbol has no bars.
        """
        dates = listing or UNKNOWN
        values = {
            "symbol": symbol,
            "listed": dates.listed,
            "delisted": dates.delisted,
            "ticker": ticker,
            "known": listing is not None,
            "likely": likely,
            "checked_at": checked_at,
            "taken": taken,
        }

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["record_listing"], values)
            connection.execute(SQL["forget_answers"], values)
            if changes is not None:
                connection.execute(SQL["forget_changes"], values)
                for change in changes:
                    connection.execute(SQL["record_change"], values | {"day": change.day, "ticker": change.ticker})

        self._transaction(work)

    def long_holes(self, symbols: Iterable[str], zone: ZoneInfo) -> list[LongHole]:
        """Return the holes of more than LONG_HOLE days in the daily bars, ascending by symbol and day."""
        values = {"symbols": list(symbols), "timeframe": DAY_1.name, "zone": zone.key, "days": LONG_HOLE}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["long_holes"], values).fetchall())
        return [LongHole(*row) for row in rows]


def _known(row: Sequence[Any]) -> KnownListing:
    listed, delisted, known, likely, first, last, days, tickers, ticker, checked_at = row
    changes = [TickerChange(*change) for change in zip(days or (), tickers or (), strict=True)]
    since, earlier = (ticker and ticker_taken(changes, ticker)) or (None, "")
    listing = Listing(
        listed,
        delisted,
        bars=DayRange(first, last) if first else None,
        # A ticker with bars exists, whatever the reference data say.
        unknown_at=None if known or first else checked_at,
        likely=likely,
        ticker_since=since,
        earlier=earlier,
    )
    return KnownListing(listing, checked_at, ticker)
