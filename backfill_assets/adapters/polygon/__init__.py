"""Polygon.io (also Massive), the market-data vendor.

What lives here: asking for bars and reading the answers. What does not: dagster, the store, or which bars are wanted.

`failures` knows what refusals mean, `wire` what answers look like, `transport` how to get one, `client` what to ask for.
"""

from backfill_assets.adapters.polygon.client import BASE_URL, Polygon
from backfill_assets.adapters.polygon.transport import Limiter, RetryPolicy, Traffic
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page

__all__ = [
    "BASE_URL",
    "GroupedDay",
    "Limiter",
    "Page",
    "Polygon",
    "RetryPolicy",
    "Traffic",
    "decode_grouped",
    "decode_page",
]
