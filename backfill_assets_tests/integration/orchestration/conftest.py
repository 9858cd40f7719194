"""A Dagster harness over a universe that suits the tests: assets, checks, or sensors."""

import pytest

from backfill_assets_tests.dagster_harness import blank_instance, ephemeral_instance, harness
from backfill_assets_tests.integration.orchestration.universes import ASSETS, CHECKS, SENSORS
from backfill_assets_tests.support import vendor, vendor_server

__all__ = ["blank_instance", "ephemeral_instance", "harness", "vendor", "vendor_server"]


@pytest.fixture
def small_universe(request):
    return {"test_assets": ASSETS, "test_catalog": ASSETS, "test_checks": CHECKS}.get(request.path.stem, SENSORS)
