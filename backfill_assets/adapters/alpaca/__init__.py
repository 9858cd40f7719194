"""The client of Alpaca's market data: raw minutes and days of stocks."""

from backfill_assets.adapters.alpaca.client import Client

__all__ = ["Client"]
