"""What the catalog says of the OHLCV assets."""

from __future__ import annotations

import dagster as dg

from backfill_assets.domain.sessions import Calendar, Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import BARS_TABLE, OWNERS, ohlcv_key

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "text", "The symbol as in the universe: BTC, not X:BTCUSD."),
        dg.TableColumn("timeframe", "text", "The bar's length: 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w."),
        dg.TableColumn("timestamp", "timestamptz", "Start of the bar."),
        dg.TableColumn("open", "float8", "First price, unadjusted."),
        dg.TableColumn("high", "float8", "Highest price, unadjusted."),
        dg.TableColumn("low", "float8", "Lowest price, unadjusted."),
        dg.TableColumn("close", "float8", "Last price, unadjusted."),
        dg.TableColumn("volume", "float8", "Shares or coins traded."),
        dg.TableColumn("vwap", "float8", "Volume-weighted average price; null where the vendor gave none."),
        dg.TableColumn("trades", "bigint", "Number of trades; null where the vendor gave none."),
        dg.TableColumn("source", "text", "polygon, or derived where it was made from finer bars."),
        dg.TableColumn("ingested_at", "timestamptz", "When the row was last written."),
    ],
    constraints=dg.TableConstraints(other=["primary key (symbol, timeframe, timestamp)"]),
)


_HOURS = {
    (Kind.STOCKS, MINUTE_1): "Minutes from 04:00 to 20:00 New York, extended hours included; no trade, no bar.",
    (Kind.STOCKS, DAY_1): "Prices of the regular session, volume of the whole day; stamped 00:00 New York.",
    (Kind.CRYPTO, MINUTE_1): "Around the clock; no trade, no bar.",
    (Kind.CRYPTO, DAY_1): "Days from 00:00 to 24:00 UTC.",
}


def ohlcv_spec(market: Market, calendar: Calendar, timeframe: Timeframe) -> dg.AssetSpec:
    """One timeframe's bars of one market, as the catalog shows it."""
    zone = calendar.hours.zone.key
    return dg.AssetSpec(
        ohlcv_key(market, timeframe),
        group_name=market.name,
        owners=OWNERS,
        kinds={"postgres"} if timeframe.derived_from else {"polygon", "postgres"},
        tags={"domain": "ohlcv", "market": market.name, "timeframe": timeframe.name},
        skippable=True,
        deps=[ohlcv_key(market, timeframe.source)] if timeframe.derived_from else [],
        description=(
            f"{market.name.capitalize()}: {timeframe.description}; raw and unadjusted, from Polygon. "
            f"{_HOURS[market.kind, timeframe.source]}\n\n"
            f"Rows of table `{BARS_TABLE}` with `timeframe = '{timeframe.name}'`. One partition is one session "
            f"({zone} day) of one symbol; closed days do not exist. A partition is materialized only where its "
            "session was answered with bars, so a missing one is a gap."
        ),
        metadata={
            "dagster/table_name": BARS_TABLE,
            "dagster/column_schema": COLUMNS,
            "symbols": len(market.symbols),
            "time_zone": zone,
            "first_session": market.start.isoformat(),
        },
    )
