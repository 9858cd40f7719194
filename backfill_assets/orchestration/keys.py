"""The keys and groups of assets."""

from __future__ import annotations

import dagster as dg

from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Archive, Market

OWNERS = ["team:market-data"]
BARS_TABLE = "market_data"

OHLCV, FEATURES, EXPORT, ARCHIVE = "ohlcv", "features", "export", "archive"
"""The families that have an asset for each timeframe."""


def ohlcv_key(market: Market, timeframe: Timeframe) -> dg.AssetKey:
    """Return `stocks/ohlcv_1m` and the like."""
    return dg.AssetKey([market.name, f"{OHLCV}_{timeframe.name}"])


def features_key(market: Market, timeframe: Timeframe) -> dg.AssetKey:
    """Return `stocks/features_1m` and the like."""
    return dg.AssetKey([market.name, f"{FEATURES}_{timeframe.name}"])


def export_key(market: Market, timeframe: Timeframe) -> dg.AssetKey:
    """Return `stocks/export_1m` and the like."""
    return dg.AssetKey([market.name, f"{EXPORT}_{timeframe.name}"])


def archive_key(archive: Archive, timeframe: Timeframe) -> dg.AssetKey:
    """Return `us_stocks/archive_1m` and the like."""
    return dg.AssetKey([archive.name, f"{ARCHIVE}_{timeframe.name}"])


def listings_key(market: Market) -> dg.AssetKey:
    """Return `stocks/listings` and the like."""
    return dg.AssetKey([market.name, "listings"])


def corporate_events_key(market: Market) -> dg.AssetKey:
    """Return `stocks/corporate_events` and the like."""
    return dg.AssetKey([market.name, "corporate_events"])


def completeness_key(market: Market) -> dg.AssetKey:
    """Return `stocks/completeness` and the like."""
    return dg.AssetKey([market.name, "completeness"])


def family_of(key: dg.AssetKey) -> tuple[str, str]:
    """Return market and family of an asset: `("stocks", "ohlcv")` of `stocks/ohlcv_1m`, else the parts of its key."""
    market, _, name = key.to_user_string().rpartition("/")
    return market, next(
        (family for family in (OHLCV, FEATURES, EXPORT, ARCHIVE) if name.startswith(f"{family}_")), name
    )
