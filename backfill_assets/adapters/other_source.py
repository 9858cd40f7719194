"""What the clients of other vendors have in common: their answer, and how one is opened."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from importlib import import_module
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.transport import RetryPolicy, Transport, VendorWords
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.bars import Bars, impossible, in_order
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Symbol

RETRY = RetryPolicy(attempts=3)
"""A fallback is asked again later anyway."""

_LONGEST_WAIT = 120.0
"""Seconds. A source that has pushed requests back for longer is left alone in this run."""


@dataclass(frozen=True, slots=True)
class SourceBars:
    """The bars of a range: raw prices, ascending, days at the start of their day; and rows that were no bars, by reason."""

    bars: Bars
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownSplits:
    """The splits of a symbol that the vendor has listed since a day."""

    since: date
    splits: tuple[SplitRatio, ...]


type SplitsOf = Callable[[Symbol], KnownSplits | None]
"""Returns the known splits of a symbol, None if they were never looked up."""


class OtherClient(Protocol):
    """A client of another vendor; `Client` of its package is made from a transport, its limiter and the known splits."""

    WORDS: VendorWords

    async def bars(self, symbol: Symbol, timeframe: Timeframe, start: date, end: date, *, now: datetime) -> SourceBars:
        """Return the bars from `start` to `end`, both included, without those that have not ended at `now`.

        Raises VendorError.
        """


@asynccontextmanager
async def open_source(
    name: str,
    database_url: str,
    splits_of: SplitsOf,
    on_wait: Callable[[str], None],
    retry: RetryPolicy = RETRY,
) -> AsyncIterator[OtherClient]:
    """Open the client of a source, with a rate limit of its own that all processes share."""
    settings = Settings.read()
    client = import_module(f"backfill_assets.adapters.{name}").Client
    url, rate = settings.other_source(name)
    async with RateLimiter(
        database_url,
        per_second=rate,
        name=name,
        longest_wait=_LONGEST_WAIT,
        on_wait=on_wait,
    ) as limiter:
        transport = Transport(
            None,
            words=replace(client.WORDS, secrets=settings.secrets_of(name)),
            base_url=url,
            limiter=limiter,
            retry=retry,
            sleep=asyncio.sleep,
            random=random.random,
            on_wait=on_wait,
        )
        try:
            yield client(transport, limiter, splits_of)
        finally:
            await transport.close()


def usable(bars: Bars, timeframe: Timeframe, zone: ZoneInfo, now: datetime) -> tuple[Bars, dict[str, int]]:
    """Return the bars that have ended, of days without an impossible one; and how many were left out, by reason.

    Whole sessions are wanted, so that one bar that cannot be true costs its day.
    """
    ended = bars.timestamp + timeframe.seconds * 1000 <= int(now.timestamp() * 1000)
    kept = in_order(bars.take(ended))
    days = kept.timestamp.astype("datetime64[ms]").astype(object)
    of = np.array([day.replace(tzinfo=UTC).astimezone(zone).toordinal() for day in days], np.int64)
    wrong = list(impossible(kept))
    off_grid = np.flatnonzero(kept.timestamp % 60_000).tolist()
    fine = ~np.isin(of, of[[*wrong, *off_grid]])
    counts = {
        "not ended": len(bars) - int(ended.sum()),
        "impossible": len(wrong),
        "not at the start of a minute": len(off_grid),
        "of a day with such a bar": int((~fine).sum()) - len({*wrong, *off_grid}),
    }
    return kept.take(fine), {reason: number for reason, number in counts.items() if number}
