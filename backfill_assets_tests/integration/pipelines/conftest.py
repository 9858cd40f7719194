"""The simulated vendor."""

from backfill_assets_tests.surroundings import vendor, vendor_server

__all__ = ["vendor", "vendor_server"]
