"""The names of assets."""

from __future__ import annotations

import dagster as dg

from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market

OWNERS = ["team:market-data"]
BARS_TABLE = "market_data"


def ohlcv_key(market: Market, timeframe: Timeframe) -> dg.AssetKey:
    """`stocks/ohlcv/1m` and the like."""
    return dg.AssetKey([market.name, "ohlcv", timeframe.name])


def features_key(market: Market, timeframe: Timeframe) -> dg.AssetKey:
    """`stocks/features/1m` and the like."""
    return dg.AssetKey([market.name, "features", timeframe.name])


def listings_key(market: Market) -> dg.AssetKey:
    """`stocks/listings` and the like."""
    return dg.AssetKey([market.name, "listings"])


def events_key(market: Market) -> dg.AssetKey:
    """`stocks/corporate_events` and the like."""
    return dg.AssetKey([market.name, "corporate_events"])


def completeness_key(market: Market) -> dg.AssetKey:
    """`stocks/completeness` and the like."""
    return dg.AssetKey([market.name, "completeness"])
