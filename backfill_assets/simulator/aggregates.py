"""The endpoints that answer with bars: one ticker's range, and one day of a whole market."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import date
from typing import Any, cast
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import answers
from backfill_assets.simulator.faults import Bar
from backfill_assets.simulator.pages import TIMESPANS, Page, Query, Timespan, page
from backfill_assets.simulator.sessions import DAY_MS, EPOCH, MINUTE_MS, Market, day_at, day_number, midnight, to_date
from backfill_assets.simulator.state import SimulatorState

_MAX_LIMIT = 50_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_YEAR_2100 = 4_102_444_800_000
_FAR = date(2099, 12, 31)

Answer = tuple[dict[str, Any], tuple[int, int, int] | None]
"""A payload, and for bars the range that it was asked for: first ms, first ms after it, interval."""


class Refused(Exception):
    """Ends an endpoint with a ready answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def ticker_range(office: SimulatorState, request: Request) -> Answer:
    """GET /v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{start}/{end}. Raises Refused."""
    query = _read(request)
    today = to_date(day_at(query.market, office.market.now_ms()))
    first, last = (to_date(d) for d in query.days)
    if refusal := office.unentitled(query.ticker, query.market, first, last, today):
        raise Refused(refusal)
    edge = office.scenario.history_edge
    if edge is not None and first < edge:
        query = replace(query, start=midnight(query.market, day_number(edge)))
    market = office.market  # one and the same, even if the scenario is exchanged meanwhile
    found = page(market, query, market.holes.touch(query.ticker, query.base, *query.days))
    payload: dict[str, Any] = {"ticker": query.ticker}
    rows = answers.bar_list(found.bars)
    payload |= _envelope(office, rows, adjusted=query.adjusted, base_count=found.base_count)
    if found.resume is not None:
        payload["next_url"] = _next_url(office, request, query, found)
    return payload, (query.start, query.end + 1, found.interval)


def whole_market(office: SimulatorState, request: Request) -> Answer:
    """GET /v2/aggs/grouped/locale/…/market/…/{date}: every known ticker's day bar. Raises Refused."""
    text = request.path_params["date"]
    market: Market = "crypto" if request.path_params["market"] == "crypto" else "stocks"
    if (request.path_params["locale"], market) not in (("us", "stocks"), ("global", "crypto")):
        raise Refused(answers.Json(answers.error("Unknown locale or market."), 404))
    day = day_number(_date(text, "date"))
    today = to_date(day_at(market, office.market.now_ms()))
    if refusal := office.unentitled(None, market, to_date(day), to_date(day), today):
        raise Refused(refusal)
    adjusted = _flag(request, "adjusted", default=True)
    source = office.market
    rows: list[Bar] = []
    for ticker in sorted(office.scenario.known):
        if (market == "crypto") != ticker.startswith("X:") or office.forbids(ticker):
            continue
        holes = source.holes.touch(ticker, "day", day, day)
        bars = source.served(ticker, source.daily(ticker, day, day, holes), DAY_MS, adjusted=adjusted)
        if market == "stocks":
            bars = replace(bars, t=bars.t + 16 * 60 * MINUTE_MS)  # no session day has a change of clocks
        rows += [{"T": ticker, **bar} for bar in answers.bar_list(bars)]
    return _envelope(office, rows, adjusted=adjusted, base_count=len(rows)), None


def _envelope(office: SimulatorState, rows: list[Bar], *, adjusted: bool, base_count: int) -> dict[str, Any]:
    payload: dict[str, Any] = {"queryCount": base_count, "resultsCount": len(rows), "adjusted": adjusted}
    if rows:
        payload["results"] = rows
    payload |= {"status": "DELAYED" if office.scenario.delayed else "OK", "request_id": answers.request_id()}
    if rows:
        payload["count"] = len(rows)
    return payload


def _next_url(office: SimulatorState, request: Request, query: Query, found: Page) -> str:
    """The rest of the range, without key, `adjusted`, `limit` and `sort`: who does not repeat them gets the defaults."""
    path = request.path_params
    start, end = (path["start"], found.resume) if query.descending else (found.resume, path["end"])
    cursor = base64.urlsafe_b64encode(f"as={found.resume}".encode()).decode().rstrip("=")
    host = office.scenario.next_url_base or str(request.base_url).rstrip("/")
    ticker = quote(query.ticker, safe=":")
    return f"{host}/v2/aggs/ticker/{ticker}/range/{query.multiplier}/{query.timespan}/{start}/{end}?cursor={cursor}"


def _read(request: Request) -> Query:
    path = request.path_params
    if path["timespan"] not in TIMESPANS:
        raise Refused(answers.Json(answers.error(f"Unknown timespan '{path['timespan']}'."), 400))
    if not path["multiplier"].isdecimal() or int(path["multiplier"]) < 1:
        raise Refused(answers.Json(answers.error("The parameter 'multiplier' must be a positive integer."), 400))
    sort = request.query_params.get("sort", "asc")
    if sort not in ("asc", "desc"):
        raise Refused(answers.Json(answers.error("The parameter 'sort' must be 'asc' or 'desc'."), 400))
    limit = request.query_params.get("limit", "5000")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_LIMIT:
        raise Refused(answers.Json(answers.error("The parameter 'limit' must be between 1 and 50000."), 400))
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
        raise Refused(answers.Json(answers.error("The parameter 'to' cannot be a time that occurs before 'from'"), 400))
    return replace(query, start=start, end=end)


def _moment(market: Market, text: str, name: str, days_on: int) -> int:
    """Milliseconds UTC of a date's beginning (`days_on` 0) or last millisecond (1), or of a moment given in milliseconds."""
    if text.isdecimal() and int(text) < _YEAR_2100:
        return int(text)
    day = min(max(_date(text, name), EPOCH), _FAR)  # beyond both there is nothing to find
    return midnight(market, day_number(day) + days_on) - days_on


def _date(text: str, name: str) -> date:
    try:
        # fromisoformat alone would also take 20240102 and 2024-W01-2
        return date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        message = f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps"
        raise Refused(answers.Json(answers.error(message), 400)) from None


def _flag(request: Request, name: str, *, default: bool) -> bool:
    return {"true": True, "false": False}.get(request.query_params.get(name, "").lower(), default)
