"""The client of Polygon.io (also Massive), the market-data vendor.

Rules about sessions, retries of sessions and storage do not belong here.
"""

from backfill_assets.adapters.polygon.client import BASE_URL, Polygon
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.adapters.polygon.wire_reference import ActionRecords
from backfill_assets.adapters.transport import Limiter, RetryPolicy, Traffic

__all__ = [
    "BASE_URL",
    "ActionRecords",
    "GroupedDay",
    "Limiter",
    "Page",
    "Polygon",
    "RetryPolicy",
    "Traffic",
    "decode_grouped",
    "decode_page",
]
