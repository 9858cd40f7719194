"""The bodies of requests."""

from __future__ import annotations

from datetime import date

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.selection import Selection

_MOST_BYTES = 65_536

type Names = tuple[str, ...] | None


class Selected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to plan; None means all. `end` is included."""

    symbols: Names = None
    markets: Names = None
    timeframes: Names = None
    start: date | None = None
    end: date | None = None

    def selection(self) -> Selection:
        """Return the selection."""
        return Selection(self.symbols, self.markets, self.timeframes, start=self.start, end=self.end)


class Wanted(Selected, frozen=True, forbid_unknown_fields=True):
    """What to backfill."""

    features: bool = False


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a schedule or sensor is to be on."""

    on: bool


BODIES: dict[str, type[msgspec.Struct]] = {"plan": Selected, "launch": Wanted, "switch": Switch}
"""By `operationId`."""


async def read_body[T: msgspec.Struct](request: Request, kind: type[T]) -> T:
    """Read the JSON of a request. Raises HTTPException if it is too long or another type, UsageMistake if it is wrong."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "The body must be JSON, with the Content-Type application/json.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"The body has more than {_MOST_BYTES:,} bytes.")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageMistake(f"The body is not valid: {str(error).rstrip('.')}.") from None
