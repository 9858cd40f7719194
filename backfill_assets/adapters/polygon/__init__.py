"""The client of Polygon.io (also Massive), the market-data vendor.

Rules about sessions, retries of sessions and storage do not belong here.
"""

from backfill_assets.adapters.polygon.addresses import Address, bars_address, grouped_address
from backfill_assets.adapters.polygon.ahead import Ahead
from backfill_assets.adapters.polygon.client import BASE_URL, Polygon
from backfill_assets.adapters.polygon.traffic import Traffic
from backfill_assets.adapters.polygon.transport import Limiter, RetryPolicy
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, decode_grouped, decode_page
from backfill_assets.adapters.polygon.wire_reference import ActionRecords

__all__ = [
    "BASE_URL",
    "ActionRecords",
    "Address",
    "Ahead",
    "GroupedDay",
    "Limiter",
    "Page",
    "Polygon",
    "RetryPolicy",
    "Traffic",
    "bars_address",
    "decode_grouped",
    "decode_page",
    "grouped_address",
]
