"""The simulated vendor. What does not live here: what is asked of it."""

from backfill_assets_tests.surroundings import vendor, vendor_server

__all__ = ["vendor", "vendor_server"]
