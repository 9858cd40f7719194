"""Yahoo's chart API, Alpaca's bars and Binance.US's klines, over the same market, with the quirks of each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import responses
from backfill_assets.simulator.aggregates import Refused
from backfill_assets.simulator.columns import Columns
from backfill_assets.simulator.sessions import day_at, day_number, to_date
from backfill_assets.simulator.state import SimulatorState

_DAY = 86_400
_OPENING = 34_200  # seconds after midnight: Yahoo stamps daily bars at the opening
_INTERVALS = {"1m": 60_000, "1d": _DAY * 1000}
_NAMES = ("open", "high", "low", "close")


def chart(state: SimulatorState, request: Request) -> dict[str, Any]:
    """GET /v8/finance/chart/{symbol}: split-adjusted prices of 24 bits, nulls, and the bar that has not ended."""
    other, query, symbol = state.scenario.other_vendors, request.query_params, request.path_params["symbol"]
    ticker, interval = symbol.replace("-", "."), query["interval"]
    first, last = int(query["period1"]), int(query["period2"])
    now = state.market.now_ms() // 1000
    if not state.market.exists(ticker) or ticker in other.unknown:
        raise Refused(_yahoo_error(404, "Not Found", "No data found, symbol may be delisted"))
    if interval == "1m" and (first < now - 30 * _DAY or last - first > 8 * _DAY):
        text = "1m data not available for startTime and endTime. Only 8 days worth of data are allowed."
        raise Refused(_yahoo_error(422, "Unprocessable Entity", text))
    days = (_day(first), _day(min(last, now)))
    bars = _bars(state, ticker, interval, *days)
    stamps = bars.t // 1000 + (_OPENING if interval == "1d" else 0)
    inside = (stamps >= first) & (stamps <= last)
    bars, stamps = bars.take(inside), stamps[inside]
    ratio = _ratios(state, ticker, bars, now)
    prices = {name: np.float32(getattr(bars, name) / ratio).astype(np.float64).tolist() for name in _NAMES}
    quote: dict[str, list[Any]] = prices | {"volume": np.rint(bars.volume * ratio).tolist()}
    times = stamps.tolist()
    for at in range(other.nulls, len(times), 97) if other.nulls else ():
        times.insert(at, times[at - 1] + 30)
        for column in quote.values():
            column.insert(at, None)
    if other.running and times and last >= now > times[-1]:
        times.append(now)
        for column in quote.values():
            column.append(column[-1])
    splits = other.splits.get(ticker, {s.execution_date: s.split_to / s.split_from for s in _splits(state, ticker)})
    events = {
        f"{at}": {"date": at, "numerator": ratio, "denominator": 1, "splitRatio": f"{ratio:g}:1"}
        for day, ratio in splits.items()
        for at in [_opening(state, ticker, day)]
        if first <= at <= min(last, now)
    }
    result: dict[str, Any] = {
        "meta": {"symbol": symbol.upper(), "currency": "USD", "dataGranularity": interval, "range": ""},
        "indicators": {"quote": [quote if times else {}]},
    }
    result |= {"timestamp": times} if times else {}
    result |= {"events": {"splits": events}} if events else {}
    return {"chart": {"result": [result], "error": None}}


def klines(state: SimulatorState, request: Request) -> list[list[Any]]:
    """GET /api/v3/klines: numbers as texts, candles without trades, at most 1,000 rows."""
    other, query = state.scenario.other_vendors, request.query_params
    pair, interval = query["symbol"], query["interval"]
    if pair not in other.pairs:
        raise Refused(responses.Json({"code": -1121, "msg": "Invalid symbol."}, 400))
    first, last = int(query["startTime"]), int(query["endTime"])
    bars = _bars(state, f"X:{pair}", interval, _day(first // 1000), _day(last // 1000))
    length = _INTERVALS[interval]
    rows = [
        [t, *(f"{v:.8f}" for v in (o, h, low, c, v)), t + length - 1, f"{c * v:.8f}", max(int(n), 1), "0", "0", "0"]
        for t, o, h, low, c, v, n in zip(
            *(c.tolist() for c in (bars.t, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.trades)),
            strict=True,
        )
    ]
    if interval == "1m" and rows:  # a candle for every minute; those without trades repeat the last close
        traded = {row[0]: row for row in rows}
        every: list[list[Any]] = []
        for t in range(rows[0][0], rows[-1][0] + 1, length):
            close = every[-1][4] if every else rows[0][1]
            still = [t, close, close, close, close, "0.00000000", t + length - 1, "0.00000000", 0, "0", "0", "0"]
            every.append(traded.get(t, still))
        rows = every
    return [row for row in rows if first <= row[0] <= last][: min(int(query.get("limit", "500")), 1000)]


def stock_bars(state: SimulatorState, request: Request) -> dict[str, Any]:
    """GET /v2/stocks/bars of Alpaca: raw bars in pages, for two keys in headers."""
    query, ticker = request.query_params, request.query_params["symbols"]
    if not all(request.headers.get(f"apca-api-{name}") for name in ("key-id", "secret-key")):
        raise Refused(responses.Json({"message": "forbidden."}, 403))
    first, last = (datetime.fromisoformat(query[name]).timestamp() * 1000 for name in ("start", "end"))
    interval = "1d" if query["timeframe"] == "1Day" else "1m"
    bars = Columns.empty()
    if state.market.exists(ticker):
        bars = _bars(state, ticker, interval, _day(int(first) // 1000), _day(int(last) // 1000))
    bars = bars.take((bars.t >= first) & (bars.t <= last))
    at, most = int(query.get("page_token", "0")), min(int(query.get("limit", "1000")), 10_000)
    page = bars.take(slice(at, at + most))
    columns = (
        c.tolist() for c in (page.t, page.open, page.high, page.low, page.close, page.volume, page.trades, page.vwap)
    )
    rows = [
        {
            "t": datetime.fromtimestamp(t / 1000, UTC).isoformat(),
            "o": o,
            "h": h,
            "l": low,
            "c": c,
            "v": v,
            "n": n,
            "vw": vw,
        }
        for t, o, h, low, c, v, n, vw in zip(*columns, strict=True)
    ]
    more = f"{at + most}" if at + most < len(bars) else None
    return {"bars": {ticker: rows} if rows else {}, "next_page_token": more}


def exchange_info(state: SimulatorState, request: Request) -> dict[str, Any]:  # noqa: ARG001  # the signature of an endpoint
    """GET /api/v3/exchangeInfo: the limits and the pairs."""
    other = state.scenario.other_vendors
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": other.limit}
    return {"rateLimits": [limit], "symbols": [{"symbol": pair, "status": "TRADING"} for pair in other.pairs]}


def _bars(state: SimulatorState, ticker: str, interval: str, start: date, end: date) -> Columns:
    made = state.market.minute_bars if interval == "1m" else state.market.daily_bars
    bars = made(ticker, start, end)
    other = state.scenario.other_vendors
    bars = bars.take(~np.isin(bars.day, [day_number(day) for day in other.lacks]))
    wrong = np.isin(bars.day, [day_number(day) for day in other.bad_prints])
    bars.high[wrong] *= 1.25
    return bars


def _splits(state: SimulatorState, ticker: str) -> list[Any]:
    return [split for split in state.scenario.splits if split.ticker == ticker and split.happened]


def _ratios(state: SimulatorState, ticker: str, bars: Columns, now: int) -> Any:
    ratio = np.ones(len(bars))
    for split in _splits(state, ticker):
        if day_number(split.execution_date) <= day_at("stocks", now * 1000):
            ratio[bars.day < day_number(split.execution_date)] *= split.split_to / split.split_from
    return ratio


def _opening(state: SimulatorState, ticker: str, day: date) -> int:
    found = state.market.daily_bars(ticker, day, day + timedelta(days=6)).t
    midnight = (
        int(found[0]) // 1000 if len(found) else int(datetime(day.year, day.month, day.day, 5, tzinfo=UTC).timestamp())
    )
    return midnight + _OPENING


def _day(seconds: int) -> date:
    return to_date(day_at("crypto", seconds * 1000))


def _yahoo_error(status: int, code: str, description: str) -> Response:
    return responses.Json({"chart": {"result": None, "error": {"code": code, "description": description}}}, status)
