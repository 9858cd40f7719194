"""The client of Yahoo's chart API: daily bars of stocks, and minutes of the last weeks, in raw units."""

from backfill_assets.adapters.yahoo.client import Client

__all__ = ["Client"]
