"""The vendor's ways of saying no, as typed errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from backfill_assets.domain.errors import (
    BadRequest,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    VendorError,
    VendorUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading a body as JSON can end in: not JSON, another shape, not UTF-8, nested too deeply."""

SUCCESS = frozenset({"OK", "DELAYED"})
"""Statuses of good answers. DELAYED is a plan whose data come 15 minutes late; its bars are as good."""

WORTH_ANOTHER_TRY = (RateLimited, VendorUnavailable, MalformedAnswer)

_MEANING: dict[type[VendorError], str] = {
    KeyRefused: "Polygon refuses the API key: set POLYGON_API_KEY to one that is valid",
    NotEntitled: "The Polygon plan of this key does not include what was asked for: begin later, or leave it out",
    NotFound: "Polygon does not know what was asked for",
    BadRequest: "Polygon does not accept the request",
    RateLimited: "Polygon says that requests come too fast: lower the configured rate to what the plan allows",
    VendorUnavailable: "Polygon gave no usable answer: try again later",
    MalformedAnswer: "Polygon's answer cannot be read",
}
_TRY_AGAIN_STATUSES = frozenset({408, 425})
_MESSAGE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Said:
    """What a body says besides data; every field is empty when the body is no JSON object or does not have it."""

    status: str = ""
    message: str = ""
    request_id: str = ""

    @property
    def failed(self) -> bool:
        """The body calls itself a failure. A body without a status does not; it is no answer of this vendor's at all."""
        return bool(self.status) and self.status not in SUCCESS


def read(body: bytes) -> Said:
    """`status`, `error` or `message`, and `request_id` of any body; never raises."""
    try:
        content = msgspec.json.decode(body)
    except UNREADABLE:
        return Said()
    if not isinstance(content, dict):
        return Said()
    status, error, message, request_id = (
        value if isinstance(value := content.get(key), str) else ""
        for key in ("status", "error", "message", "request_id")
    )
    return Said(status.upper(), " ".join((error or message).split())[:_MESSAGE_LENGTH], request_id)


def in_success(said: Said) -> VendorError:
    """The error behind a failure that came with HTTP 200. Its text is the vendor's own."""
    words = said.message.lower()
    kind: type[VendorError]
    if _is_about_the_key(words):
        kind = KeyRefused
    elif said.status in {"NOT_AUTHORIZED", "NOT_ENTITLED"} or _is_about_the_plan(words):
        kind = NotEntitled
    elif "exceeded" in words and "request" in words:
        kind = RateLimited
    elif said.status == "NOT_FOUND":
        kind = NotFound
    else:
        kind = VendorUnavailable
    return kind(f"{said.status} {said.message}".strip() or "an empty status", request_id=said.request_id or None)


def of_status(status: int, said: Said) -> VendorError:
    """The error behind any HTTP status but 200. Its text is the vendor's own; empty when the body gave none."""
    kind: type[VendorError]
    text = said.message
    if status == 401 or (status == 403 and _is_about_the_key(said.message.lower())):
        kind = KeyRefused
    elif status == 403:
        kind = NotEntitled
    elif status == 404:
        kind = NotFound
    elif status == 429:
        kind = RateLimited
    elif 300 <= status < 400:
        kind, text = BadRequest, "a redirect to another address is not followed; check the base URL"
    elif 400 <= status < 500 and status not in _TRY_AGAIN_STATUSES:
        kind = BadRequest
    elif 200 <= status < 300:
        kind = MalformedAnswer
    else:
        kind = VendorUnavailable
    return kind(text, status=status, request_id=said.request_id or None)


def sentence(kind: type[VendorError], place: str, reason: str) -> str:
    """What went wrong and what to do, where (a path and an HTTP status), and the vendor's own words."""
    return f"{_MEANING[kind]} ({place}{': ' if reason else ''}{reason})"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), or None.

    A date is counted from the answer's own Date header, so that a wrong clock on this machine changes nothing.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        until, now = _http_date(value), _http_date(headers.get("date", ""))
        if until is None or now is None:
            return None
        seconds = (until - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_about_the_key(words: str) -> bool:
    return "api key" in words or "apikey" in words


def _is_about_the_plan(words: str) -> bool:
    return "your plan" in words or "not entitled" in words or "not authorized" in words or "upgrade" in words
