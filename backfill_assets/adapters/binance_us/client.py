"""Klines of Binance.US, https://docs.binance.us/#get-candlestick-data. No key is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any

import msgspec
import numpy as np

from backfill_assets.adapters.other_source import SourceBars, SplitsOf, usable
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.transport import Transport, VendorWords
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    MalformedAnswer,
    NotFound,
    RateLimited,
    VendorError,
    VendorUnavailable,
)
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Symbol

PAGE = 1000
"""The most klines of a request, by the documentation."""

_INVALID_SYMBOL, _TOO_MANY = -1121, -1003


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


class _Limit(msgspec.Struct, rename="camel"):
    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class _Pair(msgspec.Struct):
    symbol: str


class _Exchange(msgspec.Struct, rename="camel"):
    rate_limits: list[_Limit]
    symbols: list[_Pair]


# open time, open, high, low, close, volume, close time, quote volume, trades; three more are not used
type _Kline = tuple[int, str, str, str, str, str, int, str, int, str, str, str]
_KLINES = msgspec.json.Decoder(list[_Kline])
_EXCHANGE = msgspec.json.Decoder(_Exchange)
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


def _of_status(status: int, body: bytes) -> VendorError:
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = _Error(0)
    kind: type[VendorError] = VendorUnavailable
    if status in {418, 429} or error.code == _TOO_MANY:
        kind = RateLimited
    elif error.code == _INVALID_SYMBOL:
        kind = NotFound
    elif status == 400 and error.code:
        kind = BadRequest
    return kind(error.msg[:200], status=status)


class Client:
    """Bars of pairs. The volume is what was traded at this venue, in coins."""

    WORDS = VendorWords("Binance.US", "BINANCE_US_URL", _of_status, longest_retry_after=3 * 86_400)
    """A ban of its address lasts up to three days."""

    def __init__(self, transport: Transport, limiter: RateLimiter, splits_of: SplitsOf) -> None:
        """`limiter` is slowed down to what the venue allows; coins have no splits."""
        del splits_of
        self._transport, self._limiter = transport, limiter
        self._listed: frozenset[str] = frozenset()

    async def bars(self, symbol: Symbol, timeframe: Timeframe, start: date, end: date, *, now: datetime) -> SourceBars:
        """Return the bars from `start` to `end` (UTC), both included. Raises VendorError: NotFound without such a pair."""
        if not self._listed:
            exchange = await self._transport.fetch("/api/v3/exchangeInfo", {}, _exchange)
            self._listed = frozenset(pair.symbol for pair in exchange.symbols)
            allowed = (_SECONDS[each.interval] * each.interval_num / each.limit for each in _request_limits(exchange))
            self._limiter.interval = max([self._limiter.interval, *allowed])
        pair = symbol.ticker.removeprefix("X:")
        if pair not in self._listed:
            raise NotFound(f"Binance.US does not list {pair}")
        after = _milliseconds(end + ONE_DAY)
        parts, first = [Bars.empty()], _milliseconds(start)
        trades = 0
        while first < after:
            query = {"symbol": pair, "interval": timeframe.name, "startTime": f"{first}", "endTime": f"{after - 1}"}
            decode = partial(_klines, first=first, after=after)
            page = await self._transport.fetch("/api/v3/klines", query | {"limit": f"{PAGE}"}, decode)
            traded = page.trades > 0
            trades += len(page) - int(traded.sum())
            parts.append(page.take(traded))
            if len(page) < PAGE:
                break
            first = int(page.timestamp[-1]) + 1
        bars, dropped = usable(Bars.concat(*parts), timeframe, HOURS[Kind.CRYPTO].zone, now)
        return SourceBars(bars, {**dropped, **({"without a trade": trades} if trades else {})})


def _request_limits(exchange: _Exchange) -> Iterator[_Limit]:
    return (
        limit
        for limit in exchange.rate_limits
        if limit.rate_limit_type in {"REQUEST_WEIGHT", "RAW_REQUESTS"}
        and limit.interval in _SECONDS
        and limit.limit > 0
    )


def _exchange(body: bytes) -> _Exchange:
    try:
        return _EXCHANGE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedAnswer(str(error)) from error


def _klines(body: bytes, first: int, after: int) -> Bars:
    """Decode klines that begin from `first` to before `after`, milliseconds since the epoch UTC, ascending."""
    try:
        bars = _bars(_KLINES.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise MalformedAnswer(str(error)) from error
    stamps = bars.timestamp
    if len(stamps) and (stamps[0] < first or stamps[-1] >= after or bool((np.diff(stamps) <= 0).any())):
        raise ContradictoryAnswer("its times are not those requested, or not in order")
    return bars


def _bars(rows: Sequence[_Kline]) -> Bars:
    if not rows:
        return Bars.empty()
    columns = list(zip(*rows, strict=True))
    *prices, volume, quote = (np.array([float(value) for value in columns[at]]) for at in (1, 2, 3, 4, 5, 7))
    vwap = np.divide(quote, volume, out=np.full(len(volume), np.nan), where=volume > 0)
    found: list[Any] = [np.array(columns[0], np.int64), *prices, volume, vwap, np.array(columns[8], np.int64)]
    return Bars(*found)


def _milliseconds(day: date) -> int:
    return int(datetime.combine(day, time(0), UTC).timestamp() * 1000)
