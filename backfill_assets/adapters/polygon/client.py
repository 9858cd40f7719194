"""The vendor's API: bars of a ticker in a range, daily bars of all tickers, and reference data.

The contract is https://polygon.io/docs/rest/stocks/aggregates; the vendor also answers as api.massive.com.
"""

from __future__ import annotations

import asyncio
import math
import random as _random
from typing import TYPE_CHECKING, Literal, Self

from backfill_assets.adapters.polygon.addresses import (
    EVERY_PAGE,
    Trail,
    bars_address,
    following,
    grouped_address,
    series_path,
)
from backfill_assets.adapters.polygon.contradictions import Requested, checked_day
from backfill_assets.adapters.polygon.failures import WORDS
from backfill_assets.adapters.polygon.reference import Reference
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.adapters.transport import Limiter, RetryPolicy, Traffic, Transport
from backfill_assets.domain.errors import MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from datetime import date
    from types import TracebackType

    from backfill_assets.domain.timeframes import Timeframe

BASE_URL = "https://api.polygon.io"


class Polygon(Reference):
    """Unadjusted bars and reference data. An async context manager that does not close the limiter.

    Without `api_key` every call raises KeyRefused without sending anything. `base_url` may have a path prefix.
    `sleep` takes seconds, `random` returns a number in [0, 1), `on_wait` takes a sentence before a retry. Raises
    SettingMistake if `base_url` is not an http(s) URL. Every method raises the errors of `Transport.fetch` and of the limiter
    (DatabaseUnavailable, SchemaBehind).
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        limiter: Limiter,
        base_url: str = BASE_URL,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen: sharing one is harmless
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(
            Transport(
                api_key,
                words=WORDS,
                base_url=base_url,
                limiter=limiter,
                retry=retry,
                sleep=sleep,
                random=random,
                on_wait=on_wait,
            )
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
        """The counts since the start; a live object."""
        return self._transport.traffic

    async def pages(self, ticker: str, timeframe: Timeframe, start: date, end: date) -> AsyncGenerator[Page]:
        """Yield pages of bars of `ticker` (the vendor's spelling) from `start` to `end`, both included.

        The dates are in the market's zone: New York for stocks, UTC for crypto. The vendor may send bars just outside them. A
        page without bars means that nothing was traded. A page is checked as in `Requested.checked`; the first one is yielded
        once the second shows that the pages lead forward. Raises MalformedAnswer if they do not, or have adjusted prices of a
        stock.
        """
        here = bars_address(ticker, timeframe, start, end)
        series = series_path(ticker, timeframe)
        trail, latest = Trail(here), -math.inf
        requested = Requested.range(ticker, timeframe, start, end)
        waiting: list[Page] = []
        while True:

            def decode(body: bytes, requested: Requested = requested) -> Page:
                return requested.checked(decode_page(body))

            page = await self._transport.fetch(*here, decode)
            _refuse_adjusted(ticker, adjusted=page.adjusted)
            waiting.append(page)
            if page.next_url is None or (len(page.bars) and latest > -math.inf):
                for ready in waiting:
                    yield ready
                waiting.clear()
            if page.next_url is None:
                return
            base_url = self._transport.base_url
            here = following(page.next_url, base_url=base_url, within=series, sent_again=EVERY_PAGE)
            reached = int(page.bars.timestamp.max()) if len(page.bars) else None
            trail.step(here, news=None if reached is None else reached > latest)
            latest = latest if reached is None else reached
            requested = requested.after(page)

    async def grouped_daily(self, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
        """Return the daily bars of all tickers, none if the market was closed. Those of stocks are stamped 16:00 New York."""

        def decode(body: bytes) -> GroupedDay:
            return checked_day(decode_grouped(body), kind, day)

        grouped = await self._transport.fetch(*grouped_address(kind, day), decode)
        if kind == "stocks":
            _refuse_adjusted(f"the grouped day {day}", adjusted=grouped.adjusted)
        return grouped


def _refuse_adjusted(what: str, *, adjusted: bool | None) -> None:
    if adjusted and not what.startswith("X:"):  # crypto has no splits, so the flag means nothing there
        raise MalformedAnswer(f"Polygon sent split-adjusted prices for {what} although raw ones were requested")
