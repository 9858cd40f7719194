"""The HTTP API: routes, and how a request passes faults, key check, rate limit and endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backfill_assets.simulator import aggregates, other_vendors, reference, responses, s3, scenario
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.faults import damage
from backfill_assets.simulator.flat_files import BUCKET
from backfill_assets.simulator.scenario import Fault
from backfill_assets.simulator.state import RequestRecord, SimulatorState, retry_after

Endpoint = Callable[[SimulatorState, Request], Answer]
Handler = Callable[[Request], Awaitable[Response]]

_HTML = b"<html><head><title>Bad gateway</title></head><body><center><h1>Bad gateway</h1></center></body></html>"

_OTHER = "META"


def build(state: SimulatorState) -> Starlette:
    """Create the ASGI application."""

    def vendor(path: str, endpoint: Endpoint) -> Route:
        return Route(path, _guarded(state, partial(_respond, state, endpoint)), methods=["GET"])

    def files(path: str) -> Route:
        async def answer(request: Request, fault: Fault | None) -> Response:
            return await run_in_threadpool(s3.answer, state, request, fault)

        return Route(path, _guarded(state, answer), methods=["GET", "HEAD"])

    def other(path: str, endpoint: Callable[[SimulatorState, Request], Any]) -> Route:
        async def answer(request: Request, fault: Fault | None) -> Response:
            return await run_in_threadpool(_other, state, endpoint, request, fault)

        return Route(path, _guarded(state, answer), methods=["GET"])

    return Starlette(
        routes=[
            Route("/_simulator/requests", _requests(state), methods=["GET"]),
            Route("/_simulator/scenario", _scenario(state), methods=["GET", "PUT"]),
            Route("/_simulator/reset", _reset(state), methods=["POST"]),
            vendor("/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{start}/{end}", aggregates.ticker_range),
            vendor("/v2/aggs/grouped/locale/{locale}/market/{market}/{date}", aggregates.grouped_daily),
            vendor("/v3/reference/tickers", reference.tickers),
            vendor("/v3/reference/tickers/{ticker}", reference.ticker_details),
            vendor("/vX/reference/tickers/{ticker}/events", reference.ticker_events),
            vendor("/stocks/v1/splits", reference.splits),
            vendor("/stocks/v1/dividends", reference.dividends),
            vendor("/v3/reference/splits", reference.old_splits),
            vendor("/v3/reference/dividends", reference.old_dividends),
            files(f"/{BUCKET}"),
            files(f"/{BUCKET}/{{key:path}}"),
            other("/v8/finance/chart/{symbol}", other_vendors.chart),
            other("/v2/stocks/bars", other_vendors.stock_bars),
            other("/api/v3/klines", other_vendors.klines),
            other("/api/v3/exchangeInfo", other_vendors.exchange_info),
            vendor("/{path:path}", _not_found),
        ]
    )


def _guarded(state: SimulatorState, answer: Callable[[Request, Fault | None], Awaitable[Response]]) -> Handler:
    async def handle(request: Request) -> Response:
        number = responses.number_request()
        entry = state.record(request, time.time())
        ticker = request.path_params.get("ticker") or request.query_params.get("ticker")
        fault = state.faults.choose(request.url.path, ticker)
        entry.fault = fault.kind if fault else None
        response = await _failed(fault) or await answer(request, fault)
        entry.status = 0 if isinstance(response, responses.Reset) else response.status_code
        response.headers["X-Request-Id"] = number
        return response

    return handle


async def _failed(fault: Fault | None) -> Response | None:
    """Return the response of a fault that any server may have."""
    if fault is None:
        return None
    if fault.kind == "reset":
        return responses.Reset()
    if fault.kind == "html":
        return Response(_HTML, fault.status, retry_after(fault.retry_after), "text/html")
    if fault.kind == "status":
        failed = responses.error(fault.text) if fault.text else responses.of_status(fault.status)
        return responses.Json(failed, fault.status, retry_after(fault.retry_after))
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    return None


async def _respond(state: SimulatorState, endpoint: Endpoint, request: Request, fault: Fault | None) -> Response:
    if fault is not None and fault.kind in ("error_in_200", "too_many_in_200"):
        failed = responses.error(fault.text or "The query could not be completed, please try again.")
        return responses.Json(failed if fault.kind == "error_in_200" else responses.too_many())
    if refusal := state.refusal(request):
        return refusal
    return await run_in_threadpool(_answer, state, endpoint, request, fault)


def _answer(state: SimulatorState, endpoint: Endpoint, request: Request, fault: Fault | None) -> Response:
    if fault is not None and fault.kind == "newest_first":
        query = request.scope["query_string"].replace(b"sort=asc", b"sort=desc")
        request = Request({**request.scope, "query_string": query})
    try:
        payload, span = endpoint(state, request)
    except Refused as refused:
        return refused.response
    if fault is None:
        return responses.Json(payload)
    if fault.kind == "empty":
        payload = _emptied(payload)
    elif fault.kind == "other_ticker":
        payload = {**payload, "ticker": _OTHER}
    elif "results" in payload and isinstance(payload["results"], list):
        payload = {**payload, "results": damage(payload["results"], fault, span)}
    if "resultsCount" in payload:
        more = fault.count if fault.kind == "miscount" else 0
        payload["resultsCount"] = len(payload.get("results", [])) + more
    body = msgspec.json.encode(payload)
    if fault.kind == "cut_body":
        return responses.CutBody(body, media_type="application/json")
    return responses.Json(body[: len(body) * 2 // 3] if fault.kind == "malformed_json" else body)


def _other(
    state: SimulatorState, endpoint: Callable[[SimulatorState, Request], Any], request: Request, fault: Fault | None
) -> Response:
    """Answer as another vendor, which takes no key."""
    try:
        payload = endpoint(state, request)
    except Refused as refused:
        return refused.response
    body = msgspec.json.encode(payload)
    if fault and fault.kind == "cut_body":
        return responses.CutBody(body, media_type="application/json")
    return responses.Json(body[: len(body) * 2 // 3] if fault and fault.kind == "malformed_json" else body)


def _emptied(payload: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in payload.items() if name not in ("results", "next_url", "count")}
    return rest | {name: 0 for name in ("queryCount", "resultsCount") if name in rest}


def _not_found(state: SimulatorState, request: Request) -> Answer:  # noqa: ARG001 - the signature of an endpoint
    raise Refused(Response("404 page not found\n", 404, media_type="text/plain"))


def _requests(state: SimulatorState) -> Handler:
    async def handle(_: Request) -> Response:
        entries: list[RequestRecord] = list(state.requests)
        return responses.Json(entries)

    return handle


def _scenario(state: SimulatorState) -> Handler:
    async def handle(request: Request) -> Response:
        if request.method == "PUT":
            try:
                state.adopt(scenario.read(await request.body()))
            except (msgspec.DecodeError, ValueError) as error:
                return responses.Json(responses.error(f"Invalid scenario: {error}"), 400)
        return responses.Json(scenario.write(state.scenario))

    return handle


def _reset(state: SimulatorState) -> Handler:
    async def handle(_: Request) -> Response:
        state.reset()
        return responses.Json({"status": "OK"})

    return handle
