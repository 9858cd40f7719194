"""The catalog entries of the OHLCV assets."""

from __future__ import annotations

import dagster as dg

from backfill_assets.domain.sessions import Calendar, Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, WEEK_1, Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import BARS_TABLE, OHLCV, OWNERS, ohlcv_key

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
        dg.TableColumn("vwap", "float8", "Volume-weighted average price; null if the vendor has none."),
        dg.TableColumn("trades", "bigint", "Number of trades; null if the vendor has none."),
        dg.TableColumn("source", "text", "polygon, polygon_files or a fallback; derived if made from finer bars."),
        dg.TableColumn("ingested_at", "timestamptz", "When the row was last written."),
    ],
    constraints=dg.TableConstraints(other=["primary key (symbol, timeframe, timestamp)"]),
)


_HOURS = {
    (
        Kind.STOCKS,
        MINUTE_1,
    ): "04:00 to 20:00 New York time, extended hours included; a minute without trades has no bar.",
    (Kind.STOCKS, DAY_1): "Prices of the regular session, volume of the complete day; stamped 00:00 New York time.",
    (Kind.CRYPTO, MINUTE_1): "Around the clock; a minute without trades has no bar.",
    (Kind.CRYPTO, DAY_1): "Days from 00:00 to 24:00 UTC.",
}


def ohlcv_spec(market: Market, calendar: Calendar, timeframe: Timeframe) -> dg.AssetSpec:
    """Describe one timeframe's bars of a market."""
    zone = calendar.hours.zone.key
    origin = f"derived from the {timeframe.source} bars" if timeframe.derived_from else "from Polygon"
    hours = _HOURS[market.kind, timeframe.source] + (" Weeks begin on Sunday." if timeframe == WEEK_1 else "")
    return dg.AssetSpec(
        ohlcv_key(market, timeframe),
        group_name=f"{market.name}_{OHLCV}",
        owners=OWNERS,
        kinds={"postgres"} if timeframe.derived_from else {"polygon", "postgres"},
        tags={"domain": "ohlcv", "market": market.name, "timeframe": timeframe.name},
        skippable=True,
        deps=[ohlcv_key(market, timeframe.source)] if timeframe.derived_from else [],
        description=(
            f"{timeframe.name} bars of {market.name}, raw and unadjusted, {origin}. {hours}\n\n"
            f"Rows of table `{BARS_TABLE}` with `timeframe = '{timeframe.name}'`. A partition is one session "
            f"(day in {zone}) of one symbol; closed days have no partition. A partition is materialized only if the "
            "session has bars, so a missing one is a gap."
        ),
        metadata={
            "dagster/table_name": BARS_TABLE,
            "dagster/column_schema": COLUMNS,
            "symbols": len(market.symbols),
            "time_zone": zone,
            "first_session": market.start.isoformat(),
        },
    )
