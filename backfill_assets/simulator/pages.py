"""One page of bars: larger timeframes, `limit` counted in base bars, and where the next page starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np

from backfill_assets.simulator.columns import Columns, Int, gather
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.scenario import Hole
from backfill_assets.simulator.sessions import MINUTE_MS, day_at, day_number, market_of, midnight
from backfill_assets.simulator.sessions import Market as MarketName

Timespan = Literal["minute", "hour", "day", "week", "month"]
TIMESPANS: tuple[Timespan, ...] = ("minute", "hour", "day", "week", "month")

_SPAN_MS = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS}
_SUNDAY = 3  # 1970-01-04, the first Sunday of the day numbers
_LENGTH = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: `start` and `end` are milliseconds UTC, both included; `limit` counts base bars."""

    ticker: str
    multiplier: int
    timespan: Timespan
    start: int
    end: int
    adjusted: bool = True
    descending: bool = False
    limit: int = 5000

    @property
    def market(self) -> MarketName:
        """The market of the ticker."""
        return market_of(self.ticker)

    @property
    def base(self) -> Literal["minute", "day"]:
        """The bars that `limit` counts."""
        return "minute" if self.timespan in _SPAN_MS else "day"

    @property
    def days(self) -> tuple[int, int]:
        """First and last day number of the range."""
        return day_at(self.market, self.start), day_at(self.market, self.end)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Bars in the order asked for, how many base bars they took, and the range's remaining end in ms, or None."""

    bars: Columns
    base_count: int
    resume: int | None
    interval: int


def page(market: Market, query: Query, holes: tuple[Hole, ...] = ()) -> Page:
    """The bars of a query outside the holes, as far as `limit` base bars reach.

    A last bar whose base bars did not all fit is dropped; the next page begins with it. If not even one bar fits, the limit
    is doubled until one does, because an empty page that promises more would never end.
    """
    bars = _base(market, query, holes)
    more = len(bars) > query.limit
    bucket = _buckets(query, bars)
    if more:
        keep = slice(-query.limit, None) if query.descending else slice(query.limit)
        beyond = bucket[-query.limit - 1] if query.descending else bucket[query.limit]
        bars, bucket = bars.take(keep), bucket[keep]
        whole = bucket != beyond
        bars, bucket = bars.take(whole), bucket[whole]
        if not len(bars):
            return page(market, replace(query, limit=query.limit * 2), holes)
    resume = None
    if more:
        resume = _start(query, int(bucket[0])) - 1 if query.descending else _start(query, int(bucket[-1]) + 1)
    interval = query.multiplier * _SPAN_MS.get(query.timespan, 1440 * MINUTE_MS)
    found = bars
    if len(bars) and (query.multiplier > 1 or query.timespan not in ("minute", "day")):
        found = gather(bars, bucket)
        found = replace(found, t=np.array([_start(query, int(b)) for b in found.t], dtype=np.int64))
    found = market.served(query.ticker, found, interval, adjusted=False)
    return Page(found.take(slice(None, None, -1)) if query.descending else found, len(bars), resume, interval)


def _base(market: Market, query: Query, holes: tuple[Hole, ...]) -> Columns:
    """At least `limit` + 1 base bars from the wanted end of the snapped range, if it has so many; ascending, adjusted."""
    if not market.exists(query.ticker) or query.end < query.start:
        return Columns.empty()
    first, last = query.days
    if query.base == "day":
        low, high = _number(query, first), _number(query, last)
        bars = market.daily(query.ticker, _first_day(query, low), _first_day(query, high + 1) - 1, holes)
        bars = bars.take(slice(-query.limit - 1, None) if query.descending else slice(query.limit + 1))
    else:
        step = query.multiplier * _SPAN_MS[query.timespan]
        start, end = query.start // step * step, (query.end // step + 1) * step
        first, last = day_at(query.market, start), day_at(query.market, end - 1)
        parts: list[Columns] = []
        count = 0
        for chunk in market.minutes(query.ticker, first, last, holes, backwards=query.descending):
            part = chunk.take((chunk.t >= start) & (chunk.t < end))
            parts.append(part)
            count += len(part)
            if count > query.limit:
                break
        bars = Columns.concat(*(reversed(parts) if query.descending else parts))
    return market.adjust(query.ticker, bars) if query.adjusted else bars


def _buckets(query: Query, bars: Columns) -> Int:
    """The number of the bar that each base bar belongs to, by its place on the grid."""
    if query.base == "minute":
        return bars.t // (query.multiplier * _SPAN_MS[query.timespan])
    if query.timespan == "month":
        months = bars.day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        return np.asarray(months // query.multiplier, dtype=np.int64)
    return (bars.day - _SUNDAY) // (query.multiplier * _LENGTH[query.timespan])


def _number(query: Query, day: int) -> int:
    if query.timespan == "month":
        d = np.datetime64(day, "D").astype("datetime64[M]").astype(np.int64)
        return int(d) // query.multiplier
    return (day - _SUNDAY) // (query.multiplier * _LENGTH[query.timespan])


def _first_day(query: Query, bucket: int) -> int:
    if query.timespan == "month":
        year, month = divmod(bucket * query.multiplier, 12)
        return day_number(date(1970 + year, month + 1, 1))
    return bucket * query.multiplier * _LENGTH[query.timespan] + _SUNDAY


def _start(query: Query, bucket: int) -> int:
    """Where a bar begins, milliseconds UTC: the epoch's grid for minutes and hours, the market's midnight for days."""
    if query.base == "minute":
        return bucket * query.multiplier * _SPAN_MS[query.timespan]
    return midnight(query.market, _first_day(query, bucket))
