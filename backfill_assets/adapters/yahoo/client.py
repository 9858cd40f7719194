"""Yahoo's chart API, which has no documentation and no contract; its answers are checked all the more.

Its prices and volumes are adjusted for splits. They are put back into the units of their day with the splits that the vendor
lists, and refused where Yahoo lists others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from backfill_assets.adapters.other_source import SourceBars, SplitsOf, usable
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.transport import Transport, VendorWords
from backfill_assets.domain.adjustments import SplitRatio, adjusted, factors
from backfill_assets.domain.bars import NO_TRADES, Bars, Float, Int
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    MalformedAnswer,
    NotFound,
    RateLimited,
    SplitsUnknown,
    VendorError,
    VendorUnavailable,
)
from backfill_assets.domain.sessions import HOURS, Kind, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Symbol

_ZONE = HOURS[Kind.STOCKS].zone
_MINUTE_DAYS = timedelta(days=7)
"""Yahoo gives at most eight days of minutes an answer."""
_FLOAT32 = 1.2e-7
"""The relative error of a price: Yahoo's have 24 bits."""
_SAME_RATIO = 1e-6
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Quote(msgspec.Struct):
    open: list[float | None] = []
    high: list[float | None] = []
    low: list[float | None] = []
    close: list[float | None] = []
    volume: list[float | None] = []


class _Indicators(msgspec.Struct):
    quote: list[_Quote]


class _Split(msgspec.Struct):
    date: int
    numerator: float
    denominator: float


class _Events(msgspec.Struct):
    splits: dict[str, _Split] = {}


class _Meta(msgspec.Struct, rename="camel"):
    symbol: str
    data_granularity: str


class _Result(msgspec.Struct):
    meta: _Meta
    indicators: _Indicators
    timestamp: list[int] = []
    events: _Events = msgspec.field(default_factory=_Events)


class _Error(msgspec.Struct):
    code: str = ""
    description: str | None = None


class _Chart(msgspec.Struct):
    result: list[_Result] | None = None
    error: _Error | None = None


class _Answer(msgspec.Struct):
    chart: _Chart


class _Failure(msgspec.Struct):
    error: _Error | None = None


class _Refusal(msgspec.Struct):
    chart: _Failure


_ANSWER = msgspec.json.Decoder(_Answer)
_REFUSAL = msgspec.json.Decoder(_Refusal)


def _of_status(status: int, body: bytes) -> VendorError:
    try:
        error = _REFUSAL.decode(body).chart.error or _Error()
    except _UNREADABLE:
        error = _Error()
    return _in_its_words(error, status)


def _in_its_words(error: _Error, status: int | None = None) -> VendorError:
    """Return what an error says; only its own word that there is no such symbol is final."""
    kind: type[VendorError] = VendorUnavailable
    text = error.description or error.code
    if status == 429 or "too many requests" in text.lower():
        kind = RateLimited
    elif error.code == "Not Found" and "no data found" in text.lower():
        kind = NotFound
    elif error.code in {"Bad Request", "Unprocessable Entity"}:
        kind = BadRequest
    return kind(text[:200], status=status)


class Client:
    """Bars of stocks. Minutes include those before and after the regular hours, without volume."""

    WORDS = VendorWords("Yahoo", "YAHOO_URL", _of_status, user_agent="Mozilla/5.0 (compatible; backfill-assets)")
    """Yahoo refuses the names of HTTP libraries."""

    def __init__(self, transport: Transport, limiter: RateLimiter, splits_of: SplitsOf) -> None:
        """`splits_of` returns the splits that the vendor lists."""
        del limiter
        self._transport, self._splits_of = transport, splits_of
        self._days: dict[Symbol, tuple[date, _Series]] = {}

    async def bars(self, symbol: Symbol, timeframe: Timeframe, start: date, end: date, *, now: datetime) -> SourceBars:
        """Return the bars from `start` to `end` (New York), both included, in raw units.

        Raises VendorError: SplitsUnknown if the vendor's splits since `start` are not known, ContradictoryAnswer if Yahoo
        lists others or sends something else than what was requested.
        """
        known = self._splits_of(symbol)
        if known is None or known.since > start:
            raise SplitsUnknown(
                f"Yahoo's prices are adjusted for splits, and those of {symbol} since {start} are not known: run "
                "`backfill events`"
            )
        days = await self._daily(symbol, start, now)
        splits = _agreed(symbol, start, now, known.splits, days.splits)
        found = days
        if timeframe == MINUTE_1:
            found = _Series(Bars.empty(), (), np.empty(0, np.int64))
            first = start
            while first <= end:
                last = min(first + _MINUTE_DAYS - ONE_DAY, end)
                found += await self._chart(symbol, MINUTE_1, first, last + ONE_DAY)
                first = last + ONE_DAY
        as_of = int(now.timestamp() * 1000)
        raw = _raw(found.bars, 1 / factors(found.bars.timestamp, splits, as_of, DAY_1, _ZONE))
        first_ms, after_ms = day_starts([start, end + ONE_DAY], _ZONE).tolist()
        inside = (raw.timestamp >= first_ms) & (raw.timestamp < after_ms)
        bars, dropped = usable(raw.take(inside), timeframe, _ZONE, now)
        nulls = int(((found.nulls >= first_ms) & (found.nulls < after_ms)).sum())
        return SourceBars(bars, {**dropped, **({"null": nulls} if nulls else {})})

    async def _daily(self, symbol: Symbol, start: date, now: datetime) -> _Series:
        """Return the daily bars since a day, with all splits since then, which adjust them; one request a symbol."""
        if symbol not in self._days or self._days[symbol][0] > start:
            after = now.astimezone(_ZONE).date() + ONE_DAY
            self._days[symbol] = start, await self._chart(symbol, DAY_1, start, after)
        return self._days[symbol][1]

    async def _chart(self, symbol: Symbol, timeframe: Timeframe, start: date, after: date) -> _Series:
        ticker = symbol.ticker.replace(".", "-")
        first, last = (int(datetime.combine(day, time(0), _ZONE).timestamp()) for day in (start, after))
        params = {"period1": f"{first}", "period2": f"{last}", "interval": timeframe.name, "events": "split"}
        params |= {"includePrePost": "true" if timeframe == MINUTE_1 else "false"}
        decode = partial(_series, ticker=ticker, timeframe=timeframe, first=first, last=last)
        return await self._transport.fetch(f"/v8/finance/chart/{quote(ticker, safe='')}", params, decode)


class _Series:
    """Bars of an answer, adjusted by Yahoo, its splits, and the times of rows without prices."""

    def __init__(self, bars: Bars, splits: Sequence[SplitRatio], nulls: Int) -> None:
        self.bars, self.splits, self.nulls = bars, tuple(splits), nulls

    def __add__(self, later: _Series) -> _Series:
        return _Series(Bars.concat(self.bars, later.bars), (), np.concatenate([self.nulls, later.nulls]))


def _series(body: bytes, ticker: str, timeframe: Timeframe, first: int, last: int) -> _Series:
    """Decode an answer and compare it with the request; times are seconds since the epoch UTC."""
    try:
        chart = _ANSWER.decode(body).chart
    except _UNREADABLE as error:
        raise MalformedAnswer(str(error)) from error
    if chart.error:
        raise _in_its_words(chart.error)
    if not chart.result:
        raise MalformedAnswer("it has neither a result nor an error")
    result = chart.result[0]
    if result.meta.symbol.casefold() != ticker.casefold():
        raise ContradictoryAnswer(f"it is about {result.meta.symbol!r}, not {ticker}")
    if result.meta.data_granularity != timeframe.name:
        raise ContradictoryAnswer(f"its bars are of {result.meta.data_granularity!r}, not {timeframe.name}")
    quotes = result.indicators.quote[0] if result.indicators.quote else _Quote()
    columns = (quotes.open, quotes.high, quotes.low, quotes.close, quotes.volume)
    count = len(result.timestamp)
    if any(len(column) != count for column in columns):
        raise ContradictoryAnswer("its columns are not of the same length")
    seconds = np.array(result.timestamp, np.int64)
    if count and (seconds[0] < first or seconds[-1] > last or bool((np.diff(seconds) < 0).any())):
        raise ContradictoryAnswer("its times are not those requested, or not in order")
    numbers = np.array([[np.nan if v is None else v for v in column] for column in columns], np.float64)
    given = np.flatnonzero(~np.isnan(numbers).any(axis=0))
    stamps = seconds * 1000
    if timeframe == DAY_1:
        stamps = _days(seconds)
    found: list[Any] = [stamps, *numbers, np.full(count, np.nan), np.full(count, NO_TRADES, np.int64)]
    bars = Bars(*found).take(given)
    if any(min(split.numerator, split.denominator) <= 0 for split in result.events.splits.values()):
        raise MalformedAnswer("a split has no ratio")
    splits = [SplitRatio(_day(each.date), each.denominator, each.numerator) for each in result.events.splits.values()]
    return _Series(bars, splits, np.delete(stamps, given))


def _day(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).astimezone(_ZONE).date()


def _days(seconds: Int) -> Int:
    """Return the starts of days from the times within them, at which Yahoo stamps daily bars."""
    return day_starts([_day(each) for each in seconds.tolist()], _ZONE)


def _agreed(
    symbol: Symbol, start: date, now: datetime, ours: Sequence[SplitRatio], theirs: Sequence[SplitRatio]
) -> list[SplitRatio]:
    """Return the splits since a day. Raises ContradictoryAnswer if the vendor and Yahoo list different ones."""
    until = now.astimezone(_ZONE).date()
    known, listed = (_ratios(splits, start, until) for splits in (ours, theirs))
    for day in sorted(known.keys() | listed.keys()):
        if not np.isclose(known.get(day, 1.0), listed.get(day, 1.0), rtol=_SAME_RATIO):
            here, there = known.get(day, 1.0), listed.get(day, 1.0)
            raise ContradictoryAnswer(
                f"Yahoo makes {there:g} of a share of {symbol} on {day}, the vendor {here:g}: its prices cannot be converted"
            )
    return [split for split in ours if start <= split.ex_date <= until]


def _ratios(splits: Sequence[SplitRatio], start: date, until: date) -> dict[date, float]:
    found: dict[date, float] = {}
    for split in splits:
        if start <= split.ex_date <= until:
            found[split.ex_date] = found.get(split.ex_date, 1.0) * split.ratio_to / split.ratio_from
    return found


def _raw(bars: Bars, factor: Float) -> Bars:
    """Return bars in the units of their day: prices with the digits that they were rounded from, volumes in whole shares."""
    found = adjusted(bars, factor)
    whole = np.rint(found.volume)
    volume = np.where(np.isclose(found.volume, whole, rtol=_FLOAT32), whole, found.volume)
    prices: dict[str, Any] = {name: _decimal(getattr(found, name)) for name in ("open", "high", "low", "close")}
    return replace(found, volume=volume, **prices)


def _decimal(prices: Float) -> Float:
    """Round to the fewest of 2, 4 and 6 decimals that a 24-bit number may stand for; others stay as they are."""
    found = prices.copy()
    for decimals in (6, 4, 2):
        rounded = np.round(prices, decimals)
        found = np.where(np.abs(rounded - prices) <= _FLOAT32 * prices, rounded, found)
    return found
