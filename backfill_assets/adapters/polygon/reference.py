"""Reference data: first and last days of trading, splits, dividends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from backfill_assets.adapters.polygon.addresses import Address, Trail, following, segment
from backfill_assets.adapters.polygon.wire_reference import (
    ActionPage,
    ActionRecords,
    decode_delistings,
    decode_details,
    decode_dividends,
    decode_splits,
    decode_ticker_changes,
)
from backfill_assets.domain.errors import BadRequest, NotFound, VendorUnavailable
from backfill_assets.domain.listings import UNKNOWN, Listing, TickerChange

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from backfill_assets.adapters.transport import Transport

_TICKERS = "/v3/reference/tickers"
_EVENTS = "/vX/reference/tickers"
_MOST_TICKERS = "1000"  # the endpoint's maximum; a ticker that was reused has a row for each company


@dataclass(frozen=True, slots=True)
class _Feed:
    """A kind of corporate action: its path, its deprecated path and the field with its day."""

    path: str
    old_path: str
    day: str
    decode: Callable[[bytes], ActionPage]


_SPLITS = _Feed("/stocks/v1/splits", "/v3/reference/splits", "execution_date", decode_splits)
_DIVIDENDS = _Feed("/stocks/v1/dividends", "/v3/reference/dividends", "ex_dividend_date", decode_dividends)

# the endpoints' maxima; massive.com/docs/rest/stocks/corporate-actions
_LIMIT = {"limit": "5000"}
_OLD_LIMIT = {"limit": "1000"}


class Reference:
    """The reference endpoints. Every method raises the errors of `Transport.fetch`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._missing: set[str] = set()  # paths that this server does not have

    async def listing(self, ticker: str) -> Listing | None:
        """Return the first and last day of trading of `ticker` (the vendor's spelling), in the market's zone.

        Returns None if the vendor knows neither the ticker nor a delisted one of that name.

        Sends at most two requests. A ticker that is traded now has no last day, whatever companies used it before; otherwise
        the latest one counts. Returns UNKNOWN if the vendor has no dates, or a last day before the first.

        The vendor's dates are not exact: a last day may be some days after the last trade, and a first day that of an
        earlier company or of a move to another exchange, before or after the first bar.
        """
        path = f"{_TICKERS}/{segment(ticker)}"
        try:
            details = await self._transport.fetch(path, {}, partial(decode_details, ticker=ticker))
        except NotFound:
            details = None
        listed = details.listed if details else None
        if details and details.active:
            return Listing(listed, None)
        delisted = details.delisted if details else None
        if delisted is None:
            wanted = {"ticker": ticker, "active": "false", "limit": _MOST_TICKERS}
            rows = await self._transport.fetch(_TICKERS, wanted, decode_delistings)
            days = [day for name, day in rows if name == ticker]
            if details is None and not days:
                return None
            delisted = max((day for day in days if day), default=None)
        if listed and delisted and delisted < listed:
            return UNKNOWN
        return Listing(listed, delisted)

    async def ticker_changes(self, ticker: str) -> tuple[TickerChange, ...]:
        """Return the tickers that the present holder of a stock's `ticker` took, ascending by day; none if unknown.

        The endpoint is experimental, knows no delisted tickers and is wrong for a few others.
        """
        path = f"{_EVENTS}/{segment(ticker)}/events"
        try:
            return await self._transport.fetch(path, {"types": "ticker_change"}, decode_ticker_changes)
        except NotFound:
            return ()

    async def splits(self, since: date, until: date | None = None) -> ActionRecords:
        """Return the splits of all stocks from `since` to `until`, both included, or to the last announced one.

        The days are New York's. Unusable rows are omitted; `ActionRecords.dropped` has their tickers. On a server
        without the new path the deprecated one is used from then on. Raises BadRequest if `until` is before `since`,
        MalformedAnswer if the pages do not advance.
        """
        return await self._actions(_SPLITS, since, until)

    async def dividends(self, since: date, until: date | None = None) -> ActionRecords:
        """Return the cash dividends of all stocks; as `splits`."""
        return await self._actions(_DIVIDENDS, since, until)

    async def _actions(self, feed: _Feed, since: date, until: date | None) -> ActionRecords:
        if until is not None and until < since:
            raise BadRequest(
                f"Corporate actions were requested from {since} to {until}: the start must not be after the end"
            )
        here, limit, page = await self._first_page(feed, since, until)
        path, trail = here[0], Trail(here)
        found, dropped = dict.fromkeys(page.rows), list(page.dropped)
        news: bool | None = bool(found) or None
        while page.next_url is not None:
            # the cursor includes filters and order; whether it includes the limit is not documented
            base_url = self._transport.base_url
            here = following(page.next_url, base_url=base_url, within=path, sent_again=limit)
            trail.step(here, news=news)
            page = await self._transport.fetch(*here, feed.decode)
            before = len(found)
            found |= dict.fromkeys(page.rows)
            news = len(found) > before if page.rows else None
            dropped += page.dropped
        rows = [row for row in found if since <= row.ex_date and (until is None or row.ex_date <= until)]
        return ActionRecords(sorted(rows, key=lambda row: (row.ex_date, row.symbol)), tuple(dropped))

    async def _first_page(
        self, feed: _Feed, since: date, until: date | None
    ) -> tuple[Address, dict[str, str], ActionPage]:
        days = {f"{feed.day}.gte": f"{since}"} | ({} if until is None else {f"{feed.day}.lte": f"{until}"})
        if feed.path not in self._missing:
            here = (feed.path, days | {"sort": f"{feed.day}.asc"} | _LIMIT)
            try:
                return here, _LIMIT, await self._transport.fetch(*here, feed.decode)
            except (NotFound, VendorUnavailable) as error:
                if error.status != HTTPStatus.NOT_FOUND:  # a server without the path answers in words of its own
                    raise
                self._missing.add(feed.path)
        here = (feed.old_path, days | {"sort": feed.day, "order": "asc"} | _OLD_LIMIT)
        return here, _OLD_LIMIT, await self._transport.fetch(*here, feed.decode)
