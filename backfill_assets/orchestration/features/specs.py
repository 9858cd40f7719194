"""The catalog entries of the feature assets."""

from __future__ import annotations

import dagster as dg

from backfill_assets.domain.features import COLUMNS as FEATURE_COLUMNS
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import BARS_TABLE, FEATURES, OWNERS, features_key, ohlcv_key

TABLE = "market_features"

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "text", "The symbol as in the universe: BTC, not X:BTCUSD."),
        dg.TableColumn("timeframe", "text", "The bar's length: 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w."),
        dg.TableColumn("timestamp", "timestamptz", "Start of the bar."),
        *(dg.TableColumn(c.name, "float8", f"{c.description} ({c.unit})") for c in FEATURE_COLUMNS),
        dg.TableColumn("computed_at", "timestamptz", "When the row was written."),
    ],
    constraints=dg.TableConstraints(other=["primary key (symbol, timeframe, timestamp)"]),
)


def features_spec(market: Market, calendar: Calendar, timeframe: Timeframe) -> dg.AssetSpec:
    """Describe the features of one timeframe's bars of a market."""
    zone = calendar.hours.zone.key
    return dg.AssetSpec(
        features_key(market, timeframe),
        group_name=f"{market.name}_{FEATURES}",
        owners=OWNERS,
        kinds={"pandas", "postgres"},
        tags={"domain": "features", "market": market.name, "timeframe": timeframe.name},
        skippable=True,
        deps=[ohlcv_key(market, timeframe)],
        description=(
            f"{timeframe.name} features of {market.name}: {len(FEATURE_COLUMNS)} for each bar. Prices are in the "
            "units of the bar's own day: adjusted for earlier splits, not for later ones.\n\n"
            f"Rows of table `{TABLE}` with `timeframe = '{timeframe.name}'`, one for each row of `{BARS_TABLE}`. "
            f"A partition is one session (day in {zone}) of one symbol, materialized only if the session has bars and every "
            "bar has its row."
        ),
        metadata={
            "dagster/table_name": TABLE,
            "dagster/column_schema": COLUMNS,
            "symbols": len(market.symbols),
            "time_zone": zone,
            "first_session": market.start.isoformat(),
        },
    )
