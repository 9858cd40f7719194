"""The reference endpoints: tickers, splits, dividends."""

from __future__ import annotations

from datetime import date

from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import answers
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.noise import seed
from backfill_assets.simulator.reference_pages import Listing, Row, listed
from backfill_assets.simulator.scenario import Dividend, Split
from backfill_assets.simulator.sessions import day_at, to_date
from backfill_assets.simulator.state import SimulatorState
from backfill_assets.simulator.universe import profile

# page sizes and default orders: the parameter tables of the endpoint reference
_TICKERS = Listing("ticker", "asc", 100, 1000, ("ticker", "market", "type", "active"), counted=True)
_SPLITS = Listing("execution_date", "desc", 100, 5000, ("ticker", "execution_date"))
_DIVIDENDS = Listing("ticker", "asc", 100, 5000, ("ticker", "ex_dividend_date", "frequency"))
_OLD_SPLITS = Listing("execution_date", "desc", 10, 1000, ("ticker", "execution_date"))
_OLD_DIVIDENDS = Listing("ex_dividend_date", "desc", 10, 1000, ("ticker", "ex_dividend_date", "frequency"))


def tickers(office: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/tickers: the known tickers; only active ones unless `active=false` asks for the others.

    A ticker that changed hands has a row for each company.
    """
    rows = [_ticker(office, ticker) for ticker in office.scenario.known]
    for ticker, days in office.scenario.formerly.items():
        rows += [_gone(_ticker(office, ticker), day) for day in days]
    return listed(office, request, rows, _TICKERS, {"active": "true"})


def ticker_details(office: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/tickers/{ticker}, as of the parameter `date` or of now.

    Raises Refused with 404 for an unknown one, with 400 for a date that is none.
    """
    ticker = request.path_params["ticker"]
    try:
        as_of = date.fromisoformat(request.query_params["date"]) if "date" in request.query_params else None
    except ValueError:
        raise Refused(answers.Json(answers.error("The parameter 'date' must be YYYY-MM-DD."), 400)) from None
    row = _ticker(office, ticker, as_of) if office.market.exists(ticker) else None
    shown = office.scenario.delisted_details
    if row is None or (shown == "missing" and not row["active"]):
        body = {"status": "NOT_FOUND", "request_id": answers.request_id(), "message": "Ticker not found."}
        raise Refused(answers.Json(body, 404))
    if shown == "inactive":
        row.pop("delisted_utc", None)
    if row["market"] == "stocks":
        row["list_date"] = office.market.lifetime(ticker)[0].isoformat()
    return {"request_id": answers.request_id(), "results": row, "status": "OK"}, None


def splits(office: SimulatorState, request: Request) -> Answer:
    """GET /stocks/v1/splits. Raises Refused with 404 where the scenario has the older paths only."""
    _only_new(office)
    return listed(office, request, [_split(office, s) for s in office.scenario.splits], _SPLITS)


def dividends(office: SimulatorState, request: Request) -> Answer:
    """GET /stocks/v1/dividends. Raises Refused with 404 where the scenario has the older paths only."""
    _only_new(office)
    return listed(office, request, [_dividend(office, d) for d in office.scenario.dividends], _DIVIDENDS)


def old_splits(office: SimulatorState, request: Request) -> Answer:
    """GET /v3/reference/splits, deprecated."""
    names = ("execution_date", "split_from", "split_to", "ticker", "id")
    rows = [_pick(_split(office, s), names) for s in office.scenario.splits]
    return listed(office, request, rows, _OLD_SPLITS)


def old_dividends(office: SimulatorState, request: Request) -> Answer:
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
    return listed(office, request, rows, _OLD_DIVIDENDS)


def _only_new(office: SimulatorState) -> None:
    if not office.scenario.corporate_actions_v1:
        raise Refused(Response("404 page not found\n", 404, media_type="text/plain"))


def _ticker(office: SimulatorState, ticker: str, as_of: date | None = None) -> Row:
    who = profile(ticker)
    _, died = office.market.lifetime(ticker)
    row: Row = {"ticker": ticker, "name": who.name, "market": who.market}
    if who.market == "stocks":
        row |= {
            "locale": "us",
            "primary_exchange": who.venue,
            "type": who.kind,
            "active": True,
            "currency_name": "usd",
        }
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
    today = as_of or to_date(day_at(who.market, office.market.now_ms()))
    return row if died is None or died >= today else _gone(row, died)


def _gone(row: Row, died: date) -> Row:
    return row | {"active": False, "delisted_utc": f"{died.isoformat()}T00:00:00Z"}


def _split(office: SimulatorState, split: Split) -> Row:
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


def _dividend(office: SimulatorState, dividend: Dividend) -> Row:
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


def _pick(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if name in row}


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
