"""Listing dates of stocks: sessions outside them are not expected, and so no gaps; and changes of tickers.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

from datetime import timedelta

import dagster as dg

from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.deployment.runs import interruptible
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import OWNERS, listings_key
from backfill_assets.orchestration.resources import Clock, MarketStore, PolygonApi
from backfill_assets.pipelines.listings import look_up, stale

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "text", "The symbol as in the universe."),
        dg.TableColumn("listed", "date", "First day of trading; null if the vendor has none."),
        dg.TableColumn("delisted", "date", "Last day of trading; null if it still trades."),
        dg.TableColumn("ticker", "text", "The ticker that was looked up."),
        dg.TableColumn("known", "boolean", "Whether the vendor knows it."),
        dg.TableColumn("likely", "text", "The symbol that is probably meant if it does not."),
        dg.TableColumn("checked_at", "timestamptz", "When the vendor was last queried."),
    ],
    constraints=dg.TableConstraints(other=["primary key (symbol)"]),
)


def listings_asset(market: Market) -> dg.AssetsDefinition:
    """Define the listing dates of a market's symbols: asset `stocks/listings` and the like."""

    @dg.asset(
        key=listings_key(market),
        group_name=f"{market.name}_reference",
        owners=OWNERS,
        kinds={"polygon", "postgres"},
        tags={"domain": "reference", "market": market.name},
        freshness_policy=dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=15)),
        description=f"First and last trading day of the symbols of {market.name}, from Polygon's reference data. Sessions "
        "outside them are not expected, unless there are bars. Also the changes of their "
        "tickers.\n\nRows of the tables `listings` and `ticker_changes`, refreshed after six days.",
        metadata={"dagster/table_name": "listings", "dagster/column_schema": COLUMNS},
    )
    async def listings(
        context: dg.AssetExecutionContext, clock: Clock, store: MarketStore, polygon: PolygonApi
    ) -> dg.MaterializeResult[None]:
        with interruptible(context), ListingStore(store.url(), connections=1) as table:
            due = stale(market.symbols, table.read([s.name for s in market.symbols]), clock.now())
            async with polygon.client(store.url()) as vendor:
                await look_up(table, vendor, due, clock.now)
            known = table.read([s.name for s in market.symbols])
        dates = {name: k.listing for name, k in sorted(known.items())}
        return dg.MaterializeResult(
            metadata={
                "symbols": len(known),
                "looked_up": len(due),
                "without_a_listing_date": len([d for d in dates.values() if d.listed is None]),
                "refuted_by_bars": ", ".join(name for name, d in dates.items() if d.doubtful) or "none",
                "unknown": ", ".join(name for name, d in dates.items() if d.unknown_at) or "none",
                "delisted": ", ".join(f"{name} {d.delisted}" for name, d in dates.items() if d.delisted) or "none",
            }
        )

    return listings
