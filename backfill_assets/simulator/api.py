"""The vendor's HTTP face: which path leads where, and how a request passes fault, key check, rate limit and endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backfill_assets.simulator import aggregates, answers, reference, scenario
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.faults import spoil
from backfill_assets.simulator.scenario import Fault
from backfill_assets.simulator.state import RequestRecord, SimulatorState, retry_after

Endpoint = Callable[[SimulatorState, Request], Answer]
Handler = Callable[[Request], Awaitable[Response]]

_HTML = b"<html><head><title>Bad gateway</title></head><body><center><h1>Bad gateway</h1></center></body></html>"


def build(office: SimulatorState) -> Starlette:
    """The ASGI application over one state."""

    def vendor(path: str, endpoint: Endpoint) -> Route:
        return Route(path, _guarded(office, endpoint), methods=["GET"])

    return Starlette(
        routes=[
            Route("/_simulator/requests", _requests(office), methods=["GET"]),
            Route("/_simulator/scenario", _scenario(office), methods=["GET", "PUT"]),
            Route("/_simulator/reset", _reset(office), methods=["POST"]),
            vendor("/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{start}/{end}", aggregates.ticker_range),
            vendor("/v2/aggs/grouped/locale/{locale}/market/{market}/{date}", aggregates.whole_market),
            vendor("/v3/reference/tickers", reference.tickers),
            vendor("/v3/reference/tickers/{ticker}", reference.ticker_details),
            vendor("/stocks/v1/splits", reference.splits),
            vendor("/stocks/v1/dividends", reference.dividends),
            vendor("/v3/reference/splits", reference.old_splits),
            vendor("/v3/reference/dividends", reference.old_dividends),
            vendor("/{path:path}", _nothing),
        ]
    )


def _guarded(office: SimulatorState, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        number = answers.number_request()
        entry = office.record(request, time.time())
        ticker = request.path_params.get("ticker") or request.query_params.get("ticker")
        fault = office.faults.choose(request.url.path, ticker)
        entry.fault = fault.kind if fault else None
        response = await _respond(office, endpoint, request, fault)
        entry.status = 0 if isinstance(response, answers.Reset) else response.status_code
        response.headers["X-Request-Id"] = number
        return response

    return handle


async def _respond(office: SimulatorState, endpoint: Endpoint, request: Request, fault: Fault | None) -> Response:
    if fault is not None:
        if fault.kind == "reset":
            return answers.Reset()
        if fault.kind == "html":
            return Response(_HTML, fault.status, retry_after(fault.retry_after), "text/html")
        if fault.kind == "status":
            body = answers.too_many() if fault.status == 429 else answers.error("Something went wrong on our side.")
            return answers.Json(body, fault.status, retry_after(fault.retry_after))
        if fault.kind == "error_in_200":
            return answers.Json(answers.error("The query could not be completed, please try again."))
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
    if refusal := office.refusal(request):
        return refusal
    return await run_in_threadpool(_answer, office, endpoint, request, fault)


def _answer(office: SimulatorState, endpoint: Endpoint, request: Request, fault: Fault | None) -> Response:
    try:
        payload, span = endpoint(office, request)
    except Refused as refused:
        return refused.response
    if fault is None:
        return answers.Json(payload)
    if fault.kind == "empty":
        payload = _emptied(payload)
    elif "results" in payload and isinstance(payload["results"], list):
        payload = {**payload, "results": spoil(payload["results"], fault, span)}
    body = msgspec.json.encode(payload)
    if fault.kind == "cut_body":
        return answers.CutBody(body, media_type="application/json")
    return answers.Json(body[: len(body) * 2 // 3] if fault.kind == "malformed_json" else body)


def _emptied(payload: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in payload.items() if name not in ("results", "next_url", "count")}
    return rest | {name: 0 for name in ("queryCount", "resultsCount") if name in rest}


def _nothing(office: SimulatorState, request: Request) -> Answer:  # noqa: ARG001 - an endpoint like the others
    raise Refused(Response("404 page not found\n", 404, media_type="text/plain"))


def _requests(office: SimulatorState) -> Handler:
    async def handle(_: Request) -> Response:
        entries: list[RequestRecord] = list(office.requests)
        return answers.Json(entries)

    return handle


def _scenario(office: SimulatorState) -> Handler:
    async def handle(request: Request) -> Response:
        if request.method == "PUT":
            try:
                office.adopt(scenario.read(await request.body()))
            except (msgspec.DecodeError, ValueError) as mistake:
                return answers.Json(answers.error(f"This is no scenario: {mistake}"), 400)
        return answers.Json(scenario.write(office.scenario))

    return handle


def _reset(office: SimulatorState) -> Handler:
    async def handle(_: Request) -> Response:
        office.reset()
        return answers.Json({"status": "OK"})

    return handle
