"""A universe that began ten sessions ago, so that what is missing is what a test has made so. What does not live here:
checks."""

from datetime import date

import pytest

from backfill_assets_tests.in_dagster import platform
from backfill_assets_tests.surroundings import market, universe, vendor, vendor_server

__all__ = ["platform", "vendor", "vendor_server"]

FIRST = date(2025, 6, 16)
UNIVERSE = universe(market("stocks", "AAPL", "MSFT", start=FIRST), market("crypto", "BTC", start=date(2025, 6, 28)))


@pytest.fixture
def universe_kept():
    return UNIVERSE
