"""What is asked of the vendor: bars of a ticker in a range, every ticker's bar of a date, and reference data.

The contract is https://polygon.io/docs/rest/stocks/aggregates; the vendor also answers as api.massive.com.
"""

from __future__ import annotations

import asyncio
import math
import random as _random
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, Self

from backfill_assets.adapters.polygon.addresses import (
    EVERY_PAGE,
    Trail,
    bars_address,
    following,
    grouped_address,
    series_path,
)
from backfill_assets.adapters.polygon.reference import DIVIDENDS, SPLITS, Reference
from backfill_assets.adapters.polygon.traffic import Traffic
from backfill_assets.adapters.polygon.transport import Answered, Limiter, RetryPolicy, Transport
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.domain.errors import MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date
    from types import TracebackType

    from backfill_assets.adapters.polygon.addresses import Address
    from backfill_assets.adapters.polygon.wire_reference import Events
    from backfill_assets.domain.corporate_actions import Dividend, Split
    from backfill_assets.domain.listings import Listing
    from backfill_assets.domain.timeframes import Timeframe

BASE_URL = "https://api.polygon.io"
USER_AGENT = f"backfill-assets/{version('backfill-assets')}"


class Polygon:
    """The vendor's bars, unadjusted, and reference data. An async context manager; the limiter stays the caller's to close.

    `api_key` None or empty: every call raises KeyRefused and sends nothing. `base_url` may have a path prefix. `ahead` may
    hold first answers already. `sleep` takes seconds, `random` gives a number in [0, 1). SettingMistake when `base_url` is no
    http(s) address. Every method raises the VendorError types of `Transport.fetch`, and what the limiter raises
    (DatabaseUnavailable, SchemaBehind).
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
        ahead: Answered | None = None,
    ) -> None:
        self._transport = Transport(
            api_key,
            base_url=base_url,
            limiter=limiter,
            retry=retry,
            sleep=sleep,
            random=random,
            user_agent=user_agent,
            ahead=ahead,
        )
        self._reference = Reference(self._transport)

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

    async def body(self, address: Address) -> bytes:
        """The body of the answer at an address, unread."""
        return await self._transport.get(*address)

    async def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncIterator[Page]:
        """Bars of `ticker` (the vendor's spelling) from `start` to `end`, both included, page by page as they were sent.

        The dates are the market's: New York for stocks, UTC for crypto. The vendor may send bars outside them. A page
        without bars means that nothing was traded; `page.more` tells whether another one follows. MalformedAnswer when the
        pages do not lead forward, or hold adjusted prices of a stock.
        """
        here = bars_address(ticker, timeframe, start, end)
        series = series_path(ticker, timeframe)
        trail, latest = Trail(here), -math.inf
        while True:
            page = await self._transport.fetch(*here, decode_page)
            _refuse_adjusted(ticker, adjusted=page.adjusted)
            if page.next_url is None:
                yield page
                return
            base_url = self._transport.base_url
            here = following(page.next_url, base_url=base_url, within=series, sent_again=EVERY_PAGE)
            reached = int(page.bars.timestamp.max()) if len(page.bars) else None
            trail.step(here, news=None if reached is None else reached > latest)
            latest = latest if reached is None else reached
            yield page

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """Every ticker's daily bar of `day`; empty when the market was closed. Stocks are stamped 16:00 New York."""
        grouped = await self._transport.fetch(*grouped_address(kind, day), decode_grouped)
        if kind == "stocks":
            _refuse_adjusted(f"the grouped day {day}", adjusted=grouped.adjusted)
        return grouped

    async def listing(self, ticker: str) -> Listing:
        """First and last day of trading of `ticker`, as far as the vendor knows them; see `reference.Reference.listing`."""
        return await self._reference.listing(ticker)

    async def splits(self, since: date, until: date | None = None) -> Events[Split]:
        """The whole market's splits in these days, both included; see `reference.Reference.events`."""
        return await self._reference.events(SPLITS, since, until)

    async def dividends(self, since: date, until: date | None = None) -> Events[Dividend]:
        """The whole market's cash dividends in these days, both included; see `reference.Reference.events`."""
        return await self._reference.events(DIVIDENDS, since, until)


def _refuse_adjusted(what: str, *, adjusted: bool | None) -> None:
    if adjusted and not what.startswith("X:"):  # crypto knows no splits: what the flag says there means nothing
        raise MalformedAnswer(f"Polygon sent split-adjusted prices for {what} though raw ones were asked for")
