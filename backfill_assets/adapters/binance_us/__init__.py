"""The client of Binance.US: minutes and days of crypto, the venue's own prices and volume."""

from backfill_assets.adapters.binance_us.client import Client

__all__ = ["Client"]
