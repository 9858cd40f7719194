"""The reference endpoints: tickers and their changes, splits, dividends."""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import responses
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.noise import seed
from backfill_assets.simulator.scenario import Dividend, Split
from backfill_assets.simulator.sessions import day_at, to_date
from backfill_assets.simulator.state import SimulatorState
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
class ListOptions:
    """How an endpoint lists: default order, page sizes, fields that can be filtered, and whether it returns a count."""

    sort: str
    order: str
    limit: int
    max_limit: int
    filters: tuple[str, ...]
    counted: bool = False


# page sizes and default orders are those of the endpoint reference
_TICKERS = ListOptions("ticker", "asc", 100, 1000, ("ticker", "market", "type", "active"), counted=True)
_SPLITS = ListOptions("execution_date", "desc", 100, 5000, ("ticker", "execution_date"))
_DIVIDENDS = ListOptions("ticker", "asc", 100, 5000, ("ticker", "ex_dividend_date", "frequency"))
_OLD_SPLITS = ListOptions("execution_date", "desc", 10, 1000, ("ticker", "execution_date"))
_OLD_DIVIDENDS = ListOptions("ex_dividend_date", "desc", 10, 1000, ("ticker", "ex_dividend_date", "frequency"))


def tickers(state: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/tickers: the known tickers; only active ones unless `active=false`.

    A ticker that was reused has a row for each company.
    """
    rows = [_ticker(state, ticker) for ticker in state.scenario.known]
    for ticker, days in state.scenario.formerly.items():
        rows += [_gone(_ticker(state, ticker), day) for day in days]
    return paginated(state, request, rows, _TICKERS, {"active": "true"})


def ticker_details(state: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/tickers/{ticker}, as of the parameter `date` or of now.

    Raises Refused with 404 for an unknown one, with 400 for an invalid date.
    """
    ticker = request.path_params["ticker"]
    try:
        as_of = date.fromisoformat(request.query_params["date"]) if "date" in request.query_params else None
    except ValueError:
        raise Refused(responses.Json(responses.error("The parameter 'date' must be YYYY-MM-DD."), 400)) from None
    row = _ticker(state, ticker, as_of) if ticker in state.scenario.known else None
    shown = state.scenario.delisted_details
    if row is None or (shown == "missing" and not row["active"]):
        raise _unknown_ticker()
    if shown == "inactive":
        row.pop("delisted_utc", None)
    if row["market"] == "stocks":
        row["list_date"] = state.scenario.list_dates.get(ticker, state.market.lifetime(ticker)[0]).isoformat()
    return {"request_id": responses.request_id(), "results": row, "status": "OK"}, None


def ticker_events(state: SimulatorState, request: Request) -> Answer:
    """GET /vX/reference/tickers/{ticker}/events: the tickers that its present holder took, the last one first.

    Raises Refused with 404 for an unknown or delisted one.
    """
    ticker = request.path_params["ticker"]
    if ticker not in state.scenario.known or ticker in state.scenario.delisted:
        raise _unknown_ticker()
    taken = [(r.day, r.ticker) for r in state.scenario.renames if r.ticker == ticker]
    earlier = next((r.earlier for r in state.scenario.renames if r.ticker == ticker), ticker)
    rows = [
        {"ticker_change": {"ticker": name}, "type": "ticker_change", "date": day.isoformat()}
        for day, name in [*taken, (state.market.lifetime(earlier)[0], earlier)]
    ]
    results = {"name": profile(ticker).name, "events": rows}
    return {"request_id": responses.request_id(), "results": results, "status": "OK"}, None


def _unknown_ticker() -> Refused:
    body = {"status": "NOT_FOUND", "request_id": responses.request_id(), "message": "Ticker not found."}
    return Refused(responses.Json(body, 404))


def splits(state: SimulatorState, request: Request) -> Answer:
    """GET /stocks/v1/splits. Raises Refused with 404 if the scenario has only the older paths."""
    _require_v1(state)
    return paginated(state, request, [_split(state, s) for s in state.scenario.splits], _SPLITS)


def dividends(state: SimulatorState, request: Request) -> Answer:
    """GET /stocks/v1/dividends. Raises Refused with 404 if the scenario has only the older paths."""
    _require_v1(state)
    return paginated(state, request, [_dividend(state, d) for d in state.scenario.dividends], _DIVIDENDS)


def old_splits(state: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/splits, deprecated."""
    names = ("execution_date", "split_from", "split_to", "ticker", "id")
    rows = [_pick(_split(state, s), names) for s in state.scenario.splits]
    return paginated(state, request, rows, _OLD_SPLITS)


def old_dividends(state: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/dividends, deprecated."""
    dates = ("declaration_date", "ex_dividend_date", "pay_date", "record_date")
    names = ("cash_amount", "currency", "frequency", "id", "ticker", *dates)
    rows = [_pick(_dividend(state, d), names) | {"dividend_type": "CD"} for d in state.scenario.dividends]
    return paginated(state, request, rows, _OLD_DIVIDENDS)


def _require_v1(state: SimulatorState) -> None:
    if not state.scenario.corporate_actions_v1:
        raise Refused(Response("404 page not found\n", 404, media_type="text/plain"))


def _ticker(state: SimulatorState, ticker: str, as_of: date | None = None) -> Row:
    who = profile(ticker)
    _, died = state.market.lifetime(ticker)
    row: Row = {"ticker": ticker, "name": who.name, "market": who.market}
    if who.market == "stocks":
        row |= {"locale": "us", "primary_exchange": who.venue, "type": who.kind, "active": True, "currency_name": "usd"}
    else:
        coin = ticker.removeprefix("X:").removesuffix("USD")
        row |= {
            "locale": "global",
            "active": True,
            "currency_symbol": "USD",
            "currency_name": "United States dollar",
            "base_currency_symbol": coin,
            "base_currency_name": who.name.split(" - ")[0],
        }
    today = as_of or to_date(day_at(who.market, state.market.now_ms()))
    return row if died is None or died >= today else _gone(row, died)


def _gone(row: Row, died: date) -> Row:
    return row | {"active": False, "delisted_utc": f"{died.isoformat()}T00:00:00Z"}


def _split(state: SimulatorState, split: Split) -> Row:
    factor = split.split_from / split.split_to
    for s in state.scenario.splits:
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


def _dividend(state: SimulatorState, dividend: Dividend) -> Row:
    ratio = 1.0
    for s in state.scenario.splits:
        if s.ticker == dividend.ticker and s.happened and s.execution_date > dividend.ex_dividend_date:
            ratio *= s.split_to / s.split_from
    dates = {name: getattr(dividend, name) for name in ("declaration_date", "record_date", "pay_date")}
    return {
        "id": f"E{seed('dividend', dividend.ticker, dividend.ex_dividend_date, dividend.cash_amount):016x}",
        "ticker": dividend.ticker,
        "ex_dividend_date": dividend.ex_dividend_date.isoformat(),
        **{name: value.isoformat() for name, value in dates.items() if value is not None},
        "cash_amount": dividend.cash_amount,
        "currency": dividend.currency,
        "frequency": dividend.frequency,
        "distribution_type": "recurring" if dividend.frequency else "irregular",
        "split_adjusted_cash_amount": round(dividend.cash_amount / ratio, 6),
    }


def _pick(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if name in row}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def paginated(
    state: SimulatorState,
    request: Request,
    rows: list[Row],
    options: ListOptions,
    defaults: dict[str, str] | None = None,
) -> Answer:
    """Filter, sort and paginate rows. The cursor holds the query, so `next_url` needs only a key.

    Raises Refused with 400 for an invalid cursor, limit or order.
    """
    params = dict(defaults or {}) | {k: v for k, v in request.query_params.items() if k not in ("apiKey", "cursor")}
    offset = 0
    if cursor := request.query_params.get("cursor"):
        try:
            params = dict(parse_qsl(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()))
            offset = int(params.pop("offset"))
        except (ValueError, KeyError):
            raise Refused(responses.Json(responses.error("The cursor could not be read."), 400)) from None
    limit_text = params.get("limit", str(options.limit))
    if not limit_text.isdecimal() or not 1 <= int(limit_text) <= options.max_limit:
        message = f"The parameter 'limit' must be between 1 and {options.max_limit}."
        raise Refused(responses.Json(responses.error(message), 400))
    limit = min(int(limit_text), state.scenario.reference_page or options.max_limit)
    column, _, order = params.get("sort", "").partition(".")
    column = column or options.sort
    order = order or params.get("order") or (options.order if column == options.sort else "asc")
    if rows and column not in rows[0]:
        raise Refused(responses.Json(responses.error(f"Cannot sort by '{column}'."), 400))
    chosen = sorted((row for row in rows if _passes(row, params, options)), key=lambda row: row["ticker"])
    chosen.sort(key=lambda row: row[column], reverse=order == "desc")
    payload: Row = {"results": chosen[offset : offset + limit], "status": "OK", "request_id": responses.request_id()}
    if options.counted:
        payload["count"] = len(payload["results"])
    if offset + limit < len(chosen):
        query = urlencode(params | {"offset": str(offset + limit)})
        base = state.scenario.next_url_base or str(request.base_url).rstrip("/")
        token = base64.urlsafe_b64encode(query.encode()).decode().rstrip("=")
        payload["next_url"] = f"{base}{request.url.path}?cursor={token}"
    return payload, None


def _passes(row: Row, params: dict[str, str], options: ListOptions) -> bool:
    for name in options.filters:
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
