"""Errors as problem documents (RFC 9457), each with one sentence."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from backfill_assets.adapters.postgres import refused
from backfill_assets.domain.errors import (
    BackfillError,
    EmptyStore,
    NotStored,
    StoreError,
    UniverseMistake,
    UsageMistake,
)

_STATUSES = (
    (NotStored, 404),
    (EmptyStore, 404),
    (StoreError, 503),
    (UniverseMistake, 500),  # the server's file, not the request
    (UsageMistake, 400),
)


def problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    return JSONResponse(body, status, headers, "application/problem+json")


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """Answer a request that raised an error."""
    if isinstance(error, HTTPException):
        sentence = error.detail if error.detail.endswith(".") else f"{error.detail}."
        return problem(error.status_code, sentence, dict(error.headers or {}))
    known = error if isinstance(error, BackfillError) else refused(error)
    if known is None:
        logging.getLogger(__name__).error("A request failed.", exc_info=error)
        return problem(500, "The server failed; its log says why.")
    # The commands' options are parameters here.
    sentence = " ".join(word.removeprefix("--") for word in str(known).split(" "))
    return problem(next((status for kind, status in _STATUSES if isinstance(known, kind)), 500), sentence)
