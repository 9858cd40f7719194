"""Historical bars of Alpaca, https://docs.alpaca.markets/reference/stockbars: raw by default, from all exchanges."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any

import msgspec
import numpy as np

from backfill_assets.adapters.other_source import SourceBars, SplitsOf, usable
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.transport import Transport, VendorWords
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    RateLimited,
    VendorError,
    VendorUnavailable,
)
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import DAY_1, Timeframe
from backfill_assets.domain.universe import Symbol

PAGE = 10_000
"""The most bars of a page, by the documentation."""

_ZONE = HOURS[Kind.STOCKS].zone
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Bar(msgspec.Struct):
    t: datetime
    o: float
    h: float
    l: float  # noqa: E741  # the vendor's name
    c: float
    v: float
    n: int = NO_TRADES
    vw: float | None = None


class _Answer(msgspec.Struct):
    bars: dict[str, list[_Bar]]
    next_page_token: str | None


class _Refusal(msgspec.Struct):
    message: str


def _of_status(status: int, body: bytes) -> VendorError:
    try:
        message = msgspec.json.decode(body, type=_Refusal).message
    except _UNREADABLE:
        message = ""
    kind: type[VendorError] = VendorUnavailable
    if status == 429:
        kind = RateLimited
    elif status == 403 and "subscription" in message:
        kind = NotEntitled
    elif status in {401, 403} and message:
        kind = KeyRefused
    elif status in {400, 422} and message:
        kind = BadRequest
    return kind(message[:200], status=status)


class Client:
    """Bars of stocks, with vwap and trades."""

    WORDS = VendorWords("Alpaca", "ALPACA_URL", _of_status)

    def __init__(self, transport: Transport, limiter: RateLimiter, splits_of: SplitsOf) -> None:
        """Raw prices need no splits."""
        del limiter, splits_of
        self._transport = transport

    async def bars(self, symbol: Symbol, timeframe: Timeframe, start: date, end: date, *, now: datetime) -> SourceBars:
        """Return the bars from `start` to `end` (New York), both included. Raises VendorError: KeyRefused without keys."""
        if not self._transport.has_secrets:
            raise KeyRefused("APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set: set them to the keys of Alpaca")
        first, after = (datetime.combine(day, time(0), _ZONE).astimezone(UTC) for day in (start, end + ONE_DAY))
        query = {"symbols": symbol.ticker, "timeframe": "1Day" if timeframe == DAY_1 else "1Min", "limit": f"{PAGE}"}
        query |= {"start": f"{first:%Y-%m-%dT%H:%M:%SZ}", "end": f"{after:%Y-%m-%dT%H:%M:%SZ}"}
        query |= {"adjustment": "raw", "feed": "sip", "sort": "asc"}
        decode = partial(_page, ticker=symbol.ticker, first=first, after=after)
        parts, seen = [Bars.empty()], set[str]()
        while True:
            page, token = await self._transport.fetch("/v2/stocks/bars", query, decode)
            parts.append(page)
            if token is None:
                break
            if token in seen:
                raise MalformedAnswer("Alpaca's pages lead in a circle")
            seen.add(token)
            query["page_token"] = token
        return SourceBars(*usable(Bars.concat(*parts), timeframe, _ZONE, now))


def _page(body: bytes, ticker: str, first: datetime, after: datetime) -> tuple[Bars, str | None]:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except _UNREADABLE as error:
        raise MalformedAnswer(str(error)) from error
    if set(answer.bars) - {ticker}:
        raise ContradictoryAnswer(f"it is about {', '.join(answer.bars)}, not {ticker}")
    rows = answer.bars.get(ticker, [])
    if any(bar.t.tzinfo is None or not first <= bar.t <= after for bar in rows):
        raise ContradictoryAnswer("its times are not those requested")
    floats = [np.array([getattr(bar, name) for bar in rows], np.float64) for name in ("o", "h", "l", "c", "v")]
    floats.append(np.array([np.nan if bar.vw is None else bar.vw for bar in rows], np.float64))
    stamps = np.array([round(bar.t.timestamp() * 1000) for bar in rows], np.int64)
    found: list[Any] = [stamps, *floats, np.array([bar.n for bar in rows], np.int64)]
    bars = Bars(*found)
    return bars.take(stamps < round(after.timestamp() * 1000)), answer.next_page_token  # `end` is included
