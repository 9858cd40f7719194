"""The endpoints that return bars: a range of one ticker, and one day of a market."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal, cast
from urllib.parse import quote

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import responses
from backfill_assets.simulator.columns import Columns, Int, gather
from backfill_assets.simulator.faults import Bar
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.scenario import Hole
from backfill_assets.simulator.sessions import (
    DAY_MS,
    EPOCH,
    MINUTE_MS,
    day_at,
    day_number,
    market_of,
    midnight,
    to_date,
)
from backfill_assets.simulator.sessions import Market as MarketName
from backfill_assets.simulator.state import SimulatorState

_MAX_LIMIT = 50_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_YEAR_2100 = 4_102_444_800_000
_FAR = date(2099, 12, 31)

Answer = tuple[dict[str, Any], tuple[int, int, int] | None]
"""A payload, and for bars the requested range: first ms, first ms after it, interval."""


class Refused(Exception):
    """Raised by an endpoint to return a response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def ticker_range(state: SimulatorState, request: Request) -> Answer:
    """GET /v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{start}/{end}. Raises Refused."""
    query = _read(request)
    today = to_date(day_at(query.market, state.market.now_ms()))
    first, last = (to_date(d) for d in query.days)
    if refusal := state.unentitled(query.ticker, query.market, first, last, today):
        raise Refused(refusal)
    edge = state.scenario.history_edge
    if edge is not None and first < edge:
        query = replace(query, start=midnight(query.market, day_number(edge)))
    market = state.market  # the scenario may be replaced during the request
    found = page(market, query, market.holes.touch(query.ticker, query.base, *query.days))
    payload: dict[str, Any] = {"ticker": query.ticker}
    rows = responses.bar_list(found.bars)
    payload |= _envelope(state, rows, adjusted=query.adjusted, base_count=found.base_count)
    if found.resume is not None:
        payload["next_url"] = _next_url(state, request, query, found)
    return payload, (query.start, query.end + 1, found.interval)


def grouped_daily(state: SimulatorState, request: Request) -> Answer:
    """GET /v2/aggs/grouped/locale/…/market/…/{date}: the day bar of every known ticker. Raises Refused."""
    text = request.path_params["date"]
    market: MarketName = "crypto" if request.path_params["market"] == "crypto" else "stocks"
    if (request.path_params["locale"], market) not in (("us", "stocks"), ("global", "crypto")):
        raise Refused(responses.Json(responses.error("Unknown locale or market."), 404))
    day = day_number(_date(text, "date"))
    today = to_date(day_at(market, state.market.now_ms()))
    if refusal := state.unentitled(None, market, to_date(day), to_date(day), today):
        raise Refused(refusal)
    adjusted = _flag(request, "adjusted", default=True)
    source = state.market
    rows: list[Bar] = []
    for ticker in sorted(state.market.traded):
        if (market == "crypto") != ticker.startswith("X:") or state.forbids(ticker):
            continue
        holes = source.holes.touch(ticker, "day", day, day)
        bars = source.served(ticker, source.daily(ticker, day, day, holes), DAY_MS, adjusted=adjusted)
        if market == "stocks":
            bars = replace(bars, t=bars.t + 16 * 60 * MINUTE_MS)  # clocks never change on a session
        rows += [{"T": ticker, **bar} for bar in responses.bar_list(bars)]
    return _envelope(state, rows, adjusted=adjusted, base_count=len(rows)), None


def _envelope(state: SimulatorState, rows: list[Bar], *, adjusted: bool, base_count: int) -> dict[str, Any]:
    payload: dict[str, Any] = {"queryCount": base_count, "resultsCount": len(rows), "adjusted": adjusted}
    if rows:
        payload["results"] = rows
    payload |= {"status": "DELAYED" if state.scenario.delayed else "OK", "request_id": responses.request_id()}
    if rows:
        payload["count"] = len(rows)
    return payload


def _next_url(state: SimulatorState, request: Request, query: Query, found: Page) -> str:
    """The rest of the range, without key, `adjusted`, `limit` and `sort`, which default unless the client repeats them."""
    path = request.path_params
    start, end = (path["start"], found.resume) if query.descending else (found.resume, path["end"])
    cursor = base64.urlsafe_b64encode(f"as={found.resume}".encode()).decode().rstrip("=")
    host = state.scenario.next_url_base or str(request.base_url).rstrip("/")
    ticker = quote(query.ticker, safe=":")
    return f"{host}/v2/aggs/ticker/{ticker}/range/{query.multiplier}/{query.timespan}/{start}/{end}?cursor={cursor}"


def _read(request: Request) -> Query:
    path = request.path_params
    if path["timespan"] not in TIMESPANS:
        raise Refused(responses.Json(responses.error(f"Unknown timespan '{path['timespan']}'."), 400))
    if not path["multiplier"].isdecimal() or int(path["multiplier"]) < 1:
        raise Refused(responses.Json(responses.error("The parameter 'multiplier' must be a positive integer."), 400))
    sort = request.query_params.get("sort", "asc")
    if sort not in ("asc", "desc"):
        raise Refused(responses.Json(responses.error("The parameter 'sort' must be 'asc' or 'desc'."), 400))
    limit = request.query_params.get("limit", "5000")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_LIMIT:
        raise Refused(responses.Json(responses.error("The parameter 'limit' must be between 1 and 50000."), 400))
    query = Query(
        ticker=path["ticker"],
        multiplier=int(path["multiplier"]),
        timespan=cast("Timespan", path["timespan"]),
        start=0,
        end=0,
        adjusted=_flag(request, "adjusted", default=True),
        descending=sort == "desc",
        limit=int(limit),
    )
    start = _moment(query.market, path["start"], "from", 0)
    end = _moment(query.market, path["end"], "to", 1)
    if end < start:
        raise Refused(
            responses.Json(responses.error("The parameter 'to' cannot be a time that occurs before 'from'"), 400)
        )
    return replace(query, start=start, end=end)


def _moment(market: MarketName, text: str, name: str, days_on: int) -> int:
    """Milliseconds UTC: of a timestamp itself, or of the first (`days_on` 0) or last (1) millisecond of a date."""
    if text.isdecimal() and int(text) < _YEAR_2100:
        return int(text)
    day = min(max(_date(text, name), EPOCH), _FAR)  # there are no bars outside
    return midnight(market, day_number(day) + days_on) - days_on


def _date(text: str, name: str) -> date:
    try:
        # fromisoformat also accepts 20240102 and 2024-W01-2
        return date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        message = f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps"
        raise Refused(responses.Json(responses.error(message), 400)) from None


def _flag(request: Request, name: str, *, default: bool) -> bool:
    return {"true": True, "false": False}.get(request.query_params.get(name, "").lower(), default)


# --- One page of bars

Timespan = Literal["minute", "hour", "day", "week", "month"]
TIMESPANS: tuple[Timespan, ...] = ("minute", "hour", "day", "week", "month")

_SPAN_MS = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS}
_SUNDAY = 3  # 1970-01-04, the first Sunday of the day numbers
_LENGTH = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class Query:
    """A request for bars: `start` and `end` are milliseconds UTC, both included; `limit` counts base bars."""

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
    """Bars in the requested order, the number of their base bars, and where the next page starts in ms, or None."""

    bars: Columns
    base_count: int
    resume: int | None
    interval: int


def page(market: Market, query: Query, holes: tuple[Hole, ...] = ()) -> Page:
    """Return the bars of a query outside the holes, up to `limit` base bars.

    A last bar whose base bars do not all fit is left to the next page. If no bar fits, the limit is doubled until one does,
    because a client would follow empty pages forever.
    """
    bars = _base(market, query, holes)
    more = len(bars) > query.limit
    bucket = _buckets(query, bars)
    if more:
        keep = slice(-query.limit, None) if query.descending else slice(query.limit)
        beyond = bucket[-query.limit - 1] if query.descending else bucket[query.limit]
        bars, bucket = bars.take(keep), bucket[keep]
        complete = bucket != beyond
        bars, bucket = bars.take(complete), bucket[complete]
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
    """At least `limit` + 1 base bars, if there are that many, from the requested end of the range on its grid; ascending."""
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
    """The number of the bar on the grid that each base bar belongs to."""
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
    """The start of a bar, milliseconds UTC: on the epoch's grid for minutes and hours, at the market's midnight for days."""
    if query.base == "minute":
        return bucket * query.multiplier * _SPAN_MS[query.timespan]
    return midnight(query.market, _first_day(query, bucket))
