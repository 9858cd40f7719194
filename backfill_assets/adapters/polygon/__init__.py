"""Polygon.io (also Massive), the market-data vendor.

`failures` knows what refusals mean, `envelope`, `wire` and `wire_reference` what answers look like, `addresses` where they
are, `transport` how to get one, `client` and `reference` what to ask for.
"""

from backfill_assets.adapters.polygon.client import BASE_URL, Polygon
from backfill_assets.adapters.polygon.transport import Limiter, RetryPolicy, Traffic
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.adapters.polygon.wire_reference import Events

__all__ = [
    "BASE_URL",
    "Events",
    "GroupedDay",
    "Limiter",
    "Page",
    "Polygon",
    "RetryPolicy",
    "Traffic",
    "decode_grouped",
    "decode_page",
]
