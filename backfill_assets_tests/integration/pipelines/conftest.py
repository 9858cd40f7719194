"""The simulated vendor."""

from backfill_assets_tests.support import vendor, vendor_server

__all__ = ["vendor", "vendor_server"]
