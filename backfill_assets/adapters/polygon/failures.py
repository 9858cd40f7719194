"""The status in every body of the vendor, and its errors as typed exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from backfill_assets.adapters.transport import VendorWords
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    VendorError,
    VendorUnavailable,
)
from backfill_assets.domain.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Raised when a body is not JSON, has another shape, is not UTF-8 or is nested too deeply."""

SUCCESS = frozenset({"OK", "DELAYED"})
"""Statuses of successful responses. DELAYED: the plan's data arrive 15 minutes late."""

_RETRYABLE_STATUSES = frozenset({408, 425})
_NOT_THE_VENDOR = "the answer is not Polygon's: a proxy, firewall or gateway refused the request"
_MESSAGE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Envelope:
    """A body without its data; a field is empty if the body is not a JSON object or does not have it."""

    status: str = ""
    message: str = ""
    request_id: str = ""

    @property
    def failed(self) -> bool:
        """Whether the body has a status of failure. Without a status it is not from this vendor."""
        return bool(self.status) and self.status not in SUCCESS


def read(body: bytes) -> Envelope:
    """Read `status`, `error` or `message`, and `request_id` of any body, as plain text. Never raises."""
    try:
        content = msgspec.json.decode(body)
    except UNREADABLE:
        return Envelope()
    if not isinstance(content, dict):
        return Envelope()
    status, error, message, request_id = (
        plain_text(value) if isinstance(value := content.get(key), str) else ""
        for key in ("status", "error", "message", "request_id")
    )
    return Envelope(status.upper(), (error or message)[:_MESSAGE_LENGTH], request_id)


class Body(msgspec.Struct):
    """What every body has."""

    status: str
    error: Any = None
    message: Any = None


def refuse_other_ticker(named: str | None, requested: str) -> None:
    """Raise ContradictoryAnswer if an answer names another ticker than the requested one. Case does not matter."""
    if named is not None and named.casefold() != requested.casefold():
        raise ContradictoryAnswer(f"it is about {named!r}, not {requested}")


def opened[A: Body](body: bytes, quick: Callable[[bytes], A], *lenient: Callable[[bytes], A]) -> A:
    """Return the body as decoded by the first decoder that can read it.

    Raises MalformedAnswer if none can, and KeyRefused, NotEntitled, NotFound, RateLimited or else VendorUnavailable for a
    failure inside the body, whatever the HTTP status is. An error beside a status of success is a failure; so is a message
    in place of results.
    """
    try:
        answer = quick(body)
    except UNREADABLE as error:
        envelope = read(body)
        if envelope.failed or _is_about_the_rate(envelope.message.lower()):
            raise in_success(envelope) from None
        if not lenient:
            raise MalformedAnswer(str(error)) from error
        return opened(body, lenient[0], *lenient[1:])
    if (
        answer.status.upper() not in SUCCESS
        or answer.error
        or (answer.message and not getattr(answer, "results", None))
    ):
        raise in_success(read(body))
    return answer


def in_success(envelope: Envelope) -> VendorError:
    """Return the error for a failure with HTTP 200. Its text is the vendor's."""
    kind = _in_its_words(envelope) or VendorUnavailable
    return kind(
        f"{envelope.status} {envelope.message}".strip() or "an empty status", request_id=envelope.request_id or None
    )


def of_status(status: int, envelope: Envelope) -> VendorError:
    """Return the error for any HTTP status but 200. Its text is the vendor's, or empty.

    Only the vendor's own words refuse a key, exclude data from a plan or deny that something exists: a proxy, a firewall and
    a content network use the same statuses, for a while.
    """
    kind: type[VendorError]
    text = envelope.message
    in_words = _in_its_words(envelope)
    if status == 429 or (in_words is RateLimited and 400 <= status < 500):
        kind = RateLimited
    elif (status, in_words) in _FINAL:
        kind = in_words or VendorUnavailable
    elif 300 <= status < 400:
        kind, text = BadRequest, "a redirect to another address is not followed; check the base URL"
    elif status in {401, 403, 404, 407} or (400 <= status < 500 and not envelope.status):
        kind, text = VendorUnavailable, text if envelope.status else f"{_NOT_THE_VENDOR}{': ' if text else ''}{text}"
    elif 400 <= status < 500 and status not in _RETRYABLE_STATUSES:
        kind = BadRequest
    elif 200 <= status < 300:
        kind = MalformedAnswer
    else:
        kind = VendorUnavailable
    return kind(text, status=status, request_id=envelope.request_id or None)


_FINAL = {(401, KeyRefused), (403, KeyRefused), (403, NotEntitled), (404, NotFound)}
"""The statuses that may accompany each of the vendor's final refusals."""


def _in_its_words(envelope: Envelope) -> type[VendorError] | None:
    """Return what a body says in the vendor's form and words; None if it says nothing clear."""
    words = envelope.message.lower()
    if _is_about_the_rate(words):
        return RateLimited
    if not envelope.status:
        return None
    if "api key" in words or "apikey" in words:
        return KeyRefused
    if envelope.status in {"NOT_AUTHORIZED", "NOT_ENTITLED"} or "your plan" in words or "not entitled" in words:
        return NotEntitled
    if envelope.status == "NOT_FOUND" or ("ticker" in words and "not found" in words):
        return NotFound
    return None


def _is_about_the_rate(words: str) -> bool:
    return "too many requests" in words or "rate limit" in words or ("exceeded" in words and "request" in words)


_MEANINGS: dict[type[VendorError], str] = {
    KeyRefused: "Polygon refuses the API key: set POLYGON_API_KEY to one that is valid",
    NotEntitled: "The Polygon plan of this key does not include the requested data: start later or leave it out",
    RateLimited: "Polygon's rate limit is exceeded: lower POLYGON_REQUESTS_PER_SECOND to what the plan allows",
}

WORDS = VendorWords(
    "Polygon",
    "POLYGON_BASE_URL",
    lambda status, body: of_status(status, read(body)),
    key_setting="POLYGON_API_KEY",
    meanings=_MEANINGS,
)
