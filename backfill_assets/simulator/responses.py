"""Responses: JSON as the vendor formats it, and broken connections."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from typing import Any

import msgspec
import numpy as np
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backfill_assets.simulator.columns import Columns
from backfill_assets.simulator.faults import Bar

ABORT = "simulator.abort"
"""The ASGI extension with a function that resets the connection."""

_SCIENTIFIC_FROM = 1e6  # the vendor writes large volumes as 6.42e+08; from which size is not documented

UNKNOWN_KEY = {"status": "ERROR", "error": "Unknown API Key"}


_request_id: ContextVar[str] = ContextVar("request_id", default="0" * 32)


def number_request() -> str:
    """Assign the current request a unique number of 32 hexadecimal digits."""
    number = uuid.uuid4().hex
    _request_id.set(number)
    return number


def request_id() -> str:
    """Return the number of the current request."""
    return _request_id.get()


def not_entitled(message: str) -> dict[str, str]:
    """The body of a 403."""
    return {"status": "NOT_AUTHORIZED", "request_id": request_id(), "message": message}


def error(message: str) -> dict[str, str]:
    """The body of any other error, and of an ERROR inside a 200."""
    return {"status": "ERROR", "request_id": request_id(), "error": message}


def too_many() -> dict[str, str]:
    """The body of a 429."""
    return error(
        "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue."
    )


def of_status(status: int) -> dict[str, str]:
    """The body of a status, as the vendor words it."""
    if status == 429:
        return too_many()
    if status == 403:
        return not_entitled("Your plan doesn't include this data timeframe. Please upgrade your plan.")
    if status == 404:
        return {"status": "NOT_FOUND", "request_id": request_id(), "message": "Ticker not found."}
    return UNKNOWN_KEY if status == 401 else error("Something went wrong on our side.")


def bar_list(bars: Columns) -> list[Bar]:
    """Convert bars to the objects of `results`: without missing `vw` and `n`, large volumes in scientific notation."""
    columns = (bars.volume, bars.vwap, bars.open, bars.close, bars.high, bars.low, bars.t, bars.trades)
    found: list[Bar] = [
        {"v": v, "vw": vw, "o": o, "c": c, "h": h, "l": low, "t": t, "n": n}
        for v, vw, o, c, h, low, t, n in zip(*(column.tolist() for column in columns), strict=True)
    ]
    for i in np.flatnonzero(bars.volume >= _SCIENTIFIC_FROM).tolist():
        found[i]["v"] = _scientific(found[i]["v"])
    for i in np.flatnonzero(np.isnan(bars.vwap)).tolist():
        del found[i]["vw"]
    for i in np.flatnonzero(bars.trades < 0).tolist():
        del found[i]["n"]
    return found


def _scientific(value: float) -> msgspec.Raw:
    return msgspec.Raw(np.format_float_scientific(value, trim="-", exp_digits=2).encode())


class Json(Response):
    """A JSON body; `payload` is encoded by msgspec unless it is bytes."""

    def __init__(self, payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        super().__init__(body, status, headers, "application/json")


class CutBody(Response):
    """Announces the full body and sends half of it; uvicorn then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        """Send the headers and half of the body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: len(self.body) // 2], "more_body": True})


class Reset(Response):
    """Resets the connection; on other servers than this package's it is closed after half a body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection, and wait until the server has noticed, or it would send a 500."""
        abort = scope.get("extensions", {}).get(ABORT)
        if abort is None:
            await CutBody(b"{}").__call__(scope, receive, send)
            return
        abort()
        await receive()
