"""The first requests of a plan, sent while the run that needs their answers is still being made ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from backfill_assets.adapters.polygon import Address, Ahead, Polygon, RetryPolicy, bars_address, grouped_address
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.request_plan import ApiCall, GroupedCall
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.ohlcv import in_turn

MOST = 12
"""Answers that may wait in memory, some megabytes each: what 2.5 requests a second bring while Dagster is loaded."""


def head_start(settings: Settings, database_url: str, market: Market, calls: Sequence[ApiCall]) -> Ahead:
    """Asks for the first pages of a plan, within the shared rate, in the order in which `fetch_missing` will need them.

    What fails is not repeated: the run asks again, and says what became of it.
    """

    @asynccontextmanager
    async def connect() -> AsyncIterator[Polygon]:
        async with (
            RateLimiter(database_url, per_second=settings.requests_per_second) as limiter,
            Polygon(
                settings.api_key, base_url=settings.base_url, limiter=limiter, retry=RetryPolicy(attempts=1)
            ) as polygon,
        ):
            yield polygon

    return Ahead([_address(market, call) for call in in_turn(calls)[:MOST]], connect)


def _address(market: Market, call: ApiCall) -> Address:
    if isinstance(call, GroupedCall):
        return grouped_address(market.kind.value, call.session)
    return bars_address(call.symbol.ticker, call.timeframe, call.start, call.end)
