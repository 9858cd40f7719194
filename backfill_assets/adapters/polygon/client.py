"""What is asked of the vendor: bars of a ticker in a range, and every ticker's bar of a date.

What lives here: paths, parameters, paging. What does not: retries and keys (`transport`), shapes of answers (`wire`), which
ranges are worth asking for, and what becomes of the bars.

The contract is https://polygon.io/docs/rest/stocks/aggregates; the vendor also answers as api.massive.com.
"""

from __future__ import annotations

import asyncio
import random as _random
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import backfill_assets
from backfill_assets.adapters.polygon.transport import Limiter, RetryPolicy, Traffic, Transport
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.domain.errors import BadRequest, MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date
    from types import TracebackType

    from backfill_assets.domain.timeframes import Timeframe

BASE_URL = "https://api.polygon.io"
USER_AGENT = f"backfill-assets/{backfill_assets.__version__}"

_EVERY_PAGE = {"adjusted": "false", "sort": "asc", "limit": "50000"}
"""Sent with every page: `next_url` does not carry them, and the vendor's defaults are adjusted prices and 5000 bars."""

_GROUPED_PATHS = {
    "stocks": "/v2/aggs/grouped/locale/us/market/stocks",
    "crypto": "/v2/aggs/grouped/locale/global/market/crypto",
}
_PAGES_WITHOUT_BARS = 10  # in a row; a vendor that only ever promises more would keep us for ever


class Polygon:
    """The vendor's bars, unadjusted. An async context manager; the limiter stays the caller's to close.

    `api_key` None or empty: every call raises KeyRefused and sends nothing. `base_url` may have a path prefix. `sleep` takes
    seconds, `random` gives a number in [0, 1). SettingMistake when `base_url` is no http(s) address. Every method raises the
    VendorError types of `Transport.fetch`, and what the limiter raises (DatabaseUnavailable, SchemaBehind).
    """

    def __init__(  # keyword-only but for the key, and each has a default but the limiter
        self,
        api_key: str | None,
        *,
        limiter: Limiter,
        base_url: str = BASE_URL,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen: sharing one is harmless
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._transport = Transport(
            api_key,
            base_url=base_url,
            limiter=limiter,
            retry=retry,
            sleep=sleep,
            random=random,
            user_agent=user_agent,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    @property
    def traffic(self) -> Traffic:
        """Counts since the start; they go on changing."""
        return self._transport.traffic

    async def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncIterator[Page]:
        """Bars of `ticker` (the vendor's spelling) from `start` to `end`, both included, page by page as they were sent.

        The dates are the market's: New York for stocks, UTC for crypto. The vendor may send bars outside them. A page
        without bars means that nothing was traded; `page.more` tells whether another one follows. MalformedAnswer when the
        pages do not lead forward, or hold adjusted prices of a stock.
        """
        if start > end:
            raise BadRequest(
                f"Bars of {ticker} were asked for from {start} to {end}: the start must not follow the end"
            )
        series = f"/v2/aggs/ticker/{_segment(ticker)}/range/{timeframe.multiplier}/{timeframe.timespan}/"
        here = (f"{series}{start}/{end}", _EVERY_PAGE)
        progress = _Progress(here)
        while True:
            page = await self._transport.fetch(*here, decode_page)
            _refuse_adjusted(ticker, adjusted=page.adjusted)
            if page.next_url is None:
                yield page
                return
            here = self._next(page.next_url, series)
            progress.check(page, here)
            yield page

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """Every ticker's daily bar of `day`; empty when the market was closed. Stocks are stamped 16:00 New York."""
        grouped = await self._transport.fetch(f"{_GROUPED_PATHS[kind]}/{day}", {"adjusted": "false"}, decode_grouped)
        if kind == "stocks":
            _refuse_adjusted(f"the grouped day {day}", adjusted=grouped.adjusted)
        return grouped

    def _next(self, next_url: str, series: str) -> tuple[str, dict[str, str]]:
        """Path and parameters of the next page. Host and key of `next_url` are dropped: the key goes to `base_url` only."""
        try:
            url = urlsplit(next_url)
            own = urlsplit(self._transport.base_url).path
        except ValueError as error:
            raise MalformedAnswer(f"Polygon's next page has an address that cannot be read: {error}") from error
        path = url.path.removeprefix(own) if own and url.path.startswith(own + "/") else url.path
        if not unquote(path).startswith(unquote(series)) or ".." in path:
            raise MalformedAnswer(f"Polygon's next page belongs to other bars than {unquote(series)}: {path}")
        query = {name: value for name, value in parse_qsl(url.query) if name.lower() != "apikey"}
        return quote(path, safe="/:%"), query | _EVERY_PAGE


class _Progress:
    """Watches that pages lead forward: no address twice, and later bars on each page."""

    def __init__(self, first: tuple[str, dict[str, str]]) -> None:
        self._seen = {self._mark(first)}
        self._latest: int | None = None
        self._without_bars = 0

    @staticmethod
    def _mark(address: tuple[str, dict[str, str]]) -> tuple[str, tuple[tuple[str, str], ...]]:
        path, params = address
        return unquote(path), tuple(sorted(params.items()))

    def check(self, page: Page, following: tuple[str, dict[str, str]]) -> None:
        """MalformedAnswer when `page` or what it calls the next one does not advance."""
        latest = int(page.bars.timestamp.max()) if len(page.bars) else None
        self._without_bars = self._without_bars + 1 if latest is None else 0
        stuck = self._mark(following) in self._seen or self._without_bars > _PAGES_WITHOUT_BARS
        if latest is not None:
            stuck = stuck or (self._latest is not None and latest <= self._latest)
            self._latest = latest
        if stuck:
            raise MalformedAnswer(
                f"Polygon's pages do not lead forward: stopped before asking for {following[0]} again"
            )
        self._seen.add(self._mark(following))


def _segment(ticker: str) -> str:
    if ticker in {"", ".", ".."}:
        raise BadRequest(f"{ticker!r} is not a ticker")
    return quote(ticker, safe=":")


def _refuse_adjusted(what: str, *, adjusted: bool | None) -> None:
    if adjusted and not what.startswith("X:"):  # crypto knows no splits: what the flag says there means nothing
        raise MalformedAnswer(f"Polygon sent split-adjusted prices for {what} though raw ones were asked for")
