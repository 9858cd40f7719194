"""The universe whose assets are run here. What does not live here: running them, and what a run is expected to leave."""

import pytest

from backfill_assets_tests.in_dagster import platform
from backfill_assets_tests.surroundings import market, universe, vendor, vendor_server

__all__ = ["platform", "vendor", "vendor_server"]

UNIVERSE = universe(market("stocks", "AAPL", "MSFT", "NVDA"), market("crypto", "BTC", "ETH"))


@pytest.fixture
def universe_kept():
    return UNIVERSE
