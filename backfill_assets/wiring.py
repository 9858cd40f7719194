"""The only wiring: universe and environment in, Dagster definitions out.

What lives here: `build_definitions`, with overrides for tests and for runs of our own process. What does not: anything else.
Importing this builds nothing; `backfill_assets.definitions` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.assets.ohlcv import ohlcv_assets
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.pipelines.orders import market_calendar
from backfill_assets.resources import default_resources
from backfill_assets.schedules import nightly_ohlcv


def build_definitions(
    *,
    universe: Universe | None = None,
    today: date | None = None,
    resources: Mapping[str, object] | None = None,
) -> dg.Definitions:
    """All assets, jobs and schedules of a universe. What is not given is what the environment and the clock say.

    `resources` replaces single ones by name. Raises UniverseMistake and SettingMistake.
    """
    today = today or datetime.now(UTC).date()
    universe = universe or Settings.read(os.environ).universe(today)
    markets = [(market, market_calendar(market, today), ohlcv_job(market)) for market in universe.markets]
    return dg.Definitions(
        assets=[ohlcv_assets(market, calendar) for market, calendar, _ in markets],
        jobs=[job for _, _, job in markets],
        schedules=[nightly_ohlcv(market, calendar, job) for market, calendar, job in markets],
        resources={**default_resources(), **(resources or {})},
        executor=dg.in_process_executor,
    )


def ohlcv_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that fills all timeframes of a market."""
    return dg.define_asset_job(
        f"{market.name}_ohlcv_job",
        selection=dg.AssetSelection.key_prefixes([market.name, "ohlcv"]),
        description=f"Fetch what is missing of the {market.name} bars.",
    )
