"""What surrounds every answer of the vendor: a status, and failures that come with HTTP 200."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.errors import MalformedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable


class WithStatus(Protocol):
    """A decoded answer."""

    status: str


def opened[A: WithStatus](body: bytes, quick: Callable[[bytes], A], *patient: Callable[[bytes], A]) -> A:
    """What the first decoder that can read the body makes of it.

    MalformedAnswer where none can. A failure inside the body, whatever the HTTP status was, is KeyRefused, NotEntitled,
    NotFound, RateLimited or else VendorUnavailable.
    """
    try:
        answer = quick(body)
    except failures.UNREADABLE as error:
        if (said := failures.read(body)).failed:
            raise failures.in_success(said) from None
        if not patient:
            raise MalformedAnswer(str(error)) from error
        return opened(body, patient[0], *patient[1:])
    if answer.status.upper() not in failures.SUCCESS:
        raise failures.in_success(failures.read(body))
    return answer
