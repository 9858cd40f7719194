"""The status in every body of the vendor, including failures with HTTP 200."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.errors import MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable


class WithStatus(Protocol):
    """A decoded body."""

    status: str


def opened[A: WithStatus](body: bytes, quick: Callable[[bytes], A], *lenient: Callable[[bytes], A]) -> A:
    """Return the body as decoded by the first decoder that can read it.

    Raises MalformedAnswer if none can, and KeyRefused, NotEntitled, NotFound, RateLimited or else VendorUnavailable for a
    failure inside the body, whatever the HTTP status is.
    """
    try:
        answer = quick(body)
    except failures.UNREADABLE as error:
        if (envelope := failures.read(body)).failed:
            raise failures.in_success(envelope) from None
        if not lenient:
            raise MalformedAnswer(str(error)) from error
        return opened(body, lenient[0], *lenient[1:])
    if answer.status.upper() not in failures.SUCCESS:
        raise failures.in_success(failures.read(body))
    return answer
