"""How the reference endpoints list: filters, order, pages."""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from backfill_assets.simulator import answers
from backfill_assets.simulator.aggregates import Answer, Refused
from backfill_assets.simulator.state import SimulatorState

Row = dict[str, Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    ".gt": operator.gt,
    ".gte": operator.ge,
    ".lt": operator.lt,
    ".lte": operator.le,
    ".any_of": lambda value, choice: value in choice.split(","),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """How one endpoint lists: its own default order, page sizes, the fields that filters may name, and whether it counts."""

    sort: str
    order: str
    limit: int
    max_limit: int
    filters: tuple[str, ...]
    counted: bool = False


def listed(
    office: SimulatorState, request: Request, rows: list[Row], listing: Listing, defaults: dict[str, str] | None = None
) -> Answer:
    """Rows filtered, sorted and cut into pages. The cursor carries the whole query: `next_url` needs nothing besides a key.

    Raises Refused with 400 for a cursor, a limit or an order that makes no sense.
    """
    params = dict(defaults or {}) | {k: v for k, v in request.query_params.items() if k not in ("apiKey", "cursor")}
    offset = 0
    if cursor := request.query_params.get("cursor"):
        try:
            params = dict(parse_qsl(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()))
            offset = int(params.pop("offset"))
        except (ValueError, KeyError):
            raise Refused(answers.Json(answers.error("The cursor could not be read."), 400)) from None
    limit_text = params.get("limit", str(listing.limit))
    if not limit_text.isdecimal() or not 1 <= int(limit_text) <= listing.max_limit:
        message = f"The parameter 'limit' must be between 1 and {listing.max_limit}."
        raise Refused(answers.Json(answers.error(message), 400))
    limit = min(int(limit_text), office.scenario.reference_page or listing.max_limit)
    column, _, order = params.get("sort", "").partition(".")
    column = column or listing.sort
    order = order or params.get("order") or (listing.order if column == listing.sort else "asc")
    if rows and column not in rows[0]:
        raise Refused(answers.Json(answers.error(f"Cannot sort by '{column}'."), 400))
    chosen = sorted((row for row in rows if _passes(row, params, listing)), key=lambda row: row["ticker"])
    chosen.sort(key=lambda row: row[column], reverse=order == "desc")
    payload: Row = {"results": chosen[offset : offset + limit], "status": "OK", "request_id": answers.request_id()}
    if listing.counted:
        payload["count"] = len(payload["results"])
    if offset + limit < len(chosen):
        state = urlencode(params | {"offset": str(offset + limit)})
        base = office.scenario.next_url_base or str(request.base_url).rstrip("/")
        token = base64.urlsafe_b64encode(state.encode()).decode().rstrip("=")
        payload["next_url"] = f"{base}{request.url.path}?cursor={token}"
    return payload, None


def _passes(row: Row, params: dict[str, str], listing: Listing) -> bool:
    for name in listing.filters:
        for suffix, compare in _COMPARE.items():
            wanted = params.get(name + suffix)
            if wanted is None:
                continue
            value = row.get(name)
            if isinstance(value, bool):
                value, wanted = str(value).lower(), wanted.lower()
            if value is None or not compare(str(value), wanted):
                return False
    return True
