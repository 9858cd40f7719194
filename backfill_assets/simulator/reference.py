"""The reference endpoints: tickers, splits, dividends.

What lives here: their fields, filters and pages. What does not: the records, which are the universe's and the scenario's.
Endpoint reference: massive.com/docs/rest/stocks/tickers and …/corporate-actions.
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import answers
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.noise import seed
from backfill_assets.simulator.office import Office
from backfill_assets.simulator.scenario import Dividend, Split
from backfill_assets.simulator.sessions import day_at, day_number
from backfill_assets.simulator.universe import profile

Row = dict[str, Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    ".gt": operator.gt,
    ".gte": operator.ge,
    ".lt": operator.lt,
    ".lte": operator.le,
    ".any_of": lambda value, choice: value in choice.split(","),
}


@dataclass(frozen=True, slots=True)
class _Listing:
    """How one endpoint lists: its own default order, page sizes, and the fields that filters may name."""

    sort: str
    order: str
    limit: int
    max_limit: int
    filters: tuple[str, ...]


# page sizes and default orders: the parameter tables of the endpoint reference
_TICKERS = _Listing("ticker", "asc", 100, 1000, ("ticker", "market", "type", "active"))
_SPLITS = _Listing("execution_date", "desc", 100, 5000, ("ticker", "execution_date"))
_DIVIDENDS = _Listing("ticker", "asc", 100, 5000, ("ticker", "ex_dividend_date", "frequency"))
_OLD_SPLITS = _Listing("execution_date", "desc", 10, 1000, ("ticker", "execution_date"))
_OLD_DIVIDENDS = _Listing("ex_dividend_date", "desc", 10, 1000, ("ticker", "ex_dividend_date", "frequency"))


def tickers(office: Office, request: Request) -> Answer:
    """GET /v3/reference/tickers: the known tickers; only active ones unless `active=false` asks for the others."""
    rows = [_ticker(office, ticker) for ticker in office.scenario.known]
    return _listed(office, request, rows, _TICKERS, {"active": "true"})


def ticker_details(office: Office, request: Request) -> Answer:
    """GET /v3/reference/tickers/{ticker}. Raises Refused with 404 for an unknown one."""
    ticker = request.path_params["ticker"]
    if not office.market.exists(ticker):
        body = {"status": "NOT_FOUND", "request_id": answers.request_id(), "message": "Ticker not found."}
        raise Refused(answers.Json(body, 404))
    row = _ticker(office, ticker)
    if row["market"] == "stocks":
        row["list_date"] = office.market.lifetime(ticker)[0].isoformat()
    return {"request_id": answers.request_id(), "results": row, "status": "OK"}, None


def splits(office: Office, request: Request) -> Answer:
    """GET /stocks/v1/splits. Raises Refused with 404 where the scenario has the older paths only."""
    _only_new(office)
    return _listed(office, request, [_split(office, s) for s in office.scenario.splits], _SPLITS)


def dividends(office: Office, request: Request) -> Answer:
    """GET /stocks/v1/dividends. Raises Refused with 404 where the scenario has the older paths only."""
    _only_new(office)
    return _listed(office, request, [_dividend(office, d) for d in office.scenario.dividends], _DIVIDENDS)


def old_splits(office: Office, request: Request) -> Answer:
    """GET /v3/reference/splits, deprecated."""
    names = ("execution_date", "split_from", "split_to", "ticker", "id")
    rows = [_pick(_split(office, s), names) for s in office.scenario.splits]
    return _listed(office, request, rows, _OLD_SPLITS)


def old_dividends(office: Office, request: Request) -> Answer:
    """GET /v3/reference/dividends, deprecated."""
    names = (
        "cash_amount",
        "currency",
        "declaration_date",
        "ex_dividend_date",
        "frequency",
        "id",
        "pay_date",
        "record_date",
        "ticker",
    )  # fmt: skip - one list of field names
    rows = [_pick(_dividend(office, d), names) | {"dividend_type": "CD"} for d in office.scenario.dividends]
    return _listed(office, request, rows, _OLD_DIVIDENDS)


def _only_new(office: Office) -> None:
    if not office.scenario.corporate_actions_v1:
        raise Refused(Response("404 page not found\n", 404, media_type="text/plain"))


def _ticker(office: Office, ticker: str) -> Row:
    who = profile(ticker)
    today = day_at(who.market, office.market.now_ms())
    _, died = office.market.lifetime(ticker)
    gone = died is not None and day_number(died) < today
    row: Row = {"ticker": ticker, "name": who.name, "market": who.market}
    if who.market == "stocks":
        row |= {
            "locale": "us",
            "primary_exchange": who.venue,
            "type": who.kind,
            "active": not gone,
            "currency_name": "usd",
        }
    else:
        coin = ticker.removeprefix("X:").removesuffix("USD")
        row |= {
            "locale": "global",
            "active": not gone,
            "currency_symbol": "USD",
            "currency_name": "United States dollar",
            "base_currency_symbol": coin,
            "base_currency_name": who.name.split(" - ")[0],
        }
    if gone and died is not None:
        row["delisted_utc"] = f"{died.isoformat()}T00:00:00Z"
    return row


def _split(office: Office, split: Split) -> Row:
    factor = split.split_from / split.split_to
    for s in office.scenario.splits:
        if s.ticker == split.ticker and s.happened and s.execution_date > split.execution_date:
            factor *= s.split_from / s.split_to
    return {
        "id": f"E{seed('split', split.ticker, split.execution_date, split.split_to):016x}",
        "ticker": split.ticker,
        "execution_date": split.execution_date.isoformat(),
        "split_from": _plain(split.split_from),
        "split_to": _plain(split.split_to),
        "adjustment_type": "forward_split" if split.split_to >= split.split_from else "reverse_split",
        "historical_adjustment_factor": round(factor, 6),
    }


def _dividend(office: Office, dividend: Dividend) -> Row:
    ratio = 1.0
    for s in office.scenario.splits:
        if s.ticker == dividend.ticker and s.happened and s.execution_date > dividend.ex_dividend_date:
            ratio *= s.split_to / s.split_from
    dates = {name: getattr(dividend, name) for name in ("declaration_date", "record_date", "pay_date")}
    return {
        "id": f"E{seed('dividend', dividend.ticker, dividend.ex_dividend_date, dividend.cash_amount):016x}",
        "ticker": dividend.ticker,
        "ex_dividend_date": dividend.ex_dividend_date.isoformat(),
        **{name: value.isoformat() for name, value in dates.items() if value is not None},
        "cash_amount": dividend.cash_amount,
        "currency": "USD",
        "frequency": dividend.frequency,
        "distribution_type": "recurring" if dividend.frequency else "irregular",
        "split_adjusted_cash_amount": round(dividend.cash_amount / ratio, 6),
    }


def _listed(
    office: Office, request: Request, rows: list[Row], listing: _Listing, defaults: dict[str, str] | None = None
) -> Answer:
    """Filtered, sorted and cut into pages. The cursor carries the whole query: `next_url` needs nothing besides a key."""
    params = dict(defaults or {}) | {k: v for k, v in request.query_params.items() if k not in ("apiKey", "cursor")}
    offset = 0
    if cursor := request.query_params.get("cursor"):
        try:
            params = dict(parse_qsl(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()))
            offset = int(params.pop("offset"))
        except (ValueError, KeyError):
            raise Refused(answers.Json(answers.error("The cursor could not be read."), 400)) from None
    limit_text = params.get("limit", str(listing.limit))
    if not limit_text.isdecimal() or not 1 <= int(limit_text) <= listing.max_limit:
        message = f"The parameter 'limit' must be between 1 and {listing.max_limit}."
        raise Refused(answers.Json(answers.error(message), 400))
    limit = int(limit_text)
    column, _, order = params.get("sort", "").partition(".")
    column = column or listing.sort
    order = order or params.get("order") or (listing.order if column == listing.sort else "asc")
    if rows and column not in rows[0]:
        raise Refused(answers.Json(answers.error(f"Cannot sort by '{column}'."), 400))
    chosen = sorted((row for row in rows if _passes(row, params, listing)), key=lambda row: row["ticker"])
    chosen.sort(key=lambda row: row[column], reverse=order == "desc")
    payload: Row = {"results": chosen[offset : offset + limit], "status": "OK", "request_id": answers.request_id()}
    if listing is _TICKERS:
        payload["count"] = len(payload["results"])
    if offset + limit < len(chosen):
        state = urlencode(params | {"offset": str(offset + limit)})
        base = office.scenario.next_url_base or str(request.base_url).rstrip("/")
        token = base64.urlsafe_b64encode(state.encode()).decode().rstrip("=")
        payload["next_url"] = f"{base}{request.url.path}?cursor={token}"
    return payload, None


def _passes(row: Row, params: dict[str, str], listing: _Listing) -> bool:
    for name in listing.filters:
        for suffix, compare in _COMPARE.items():
            wanted = params.get(name + suffix)
            if wanted is None:
                continue
            value = row.get(name)
            if isinstance(value, bool):
                value, wanted = str(value).lower(), wanted.lower()
            if value is None or not compare(str(value), wanted):
                return False
    return True


def _pick(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if name in row}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
