"""The only wiring: universe and environment in, Dagster definitions out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.orchestration.alerts.check_alerts import check_alerts_sensor
from backfill_assets.orchestration.alerts.run_alerts import run_alerts_sensor
from backfill_assets.orchestration.completeness.assets import completeness_asset
from backfill_assets.orchestration.completeness.sensors import completeness_sensor
from backfill_assets.orchestration.corporate_actions.assets import events_asset
from backfill_assets.orchestration.features.assets import feature_assets
from backfill_assets.orchestration.features.checks import feature_check_specs
from backfill_assets.orchestration.features.sensors import stale_features_sensor
from backfill_assets.orchestration.keys import completeness_key, events_key
from backfill_assets.orchestration.listings.assets import listings_asset
from backfill_assets.orchestration.ohlcv.assets import ohlcv_assets
from backfill_assets.orchestration.ohlcv.checks import ohlcv_check_specs
from backfill_assets.orchestration.ohlcv.sensors import gap_repair_sensor
from backfill_assets.orchestration.resources import default_resources
from backfill_assets.orchestration.schedules import (
    daily_events,
    hourly_checks,
    hourly_completeness,
    nightly_features,
    nightly_ohlcv,
    weekly_listings,
)
from backfill_assets.pipelines.backfill_request import market_calendar


def build_definitions(
    *,
    universe: Universe | None = None,
    today: date | None = None,
    resources: Mapping[str, object] | None = None,
) -> dg.Definitions:
    """All assets, jobs, schedules and sensors of a universe. What is not given is what the environment and the clock say.

    `resources` replaces single ones by name. Raises UniverseMistake and SettingMistake.
    """
    today = today or datetime.now(UTC).date()
    universe = universe or Settings.read().universe(today)
    calendars = {market.name: market_calendar(market, today) for market in universe.markets}
    stocks = [market for market in universe.markets if market.kind is Kind.STOCKS]
    jobs = {market.name: ohlcv_job(market) for market in universe.markets}
    checks = {market.name: ohlcv_checks_job(market) for market in universe.markets}
    features = {market.name: features_job(market) for market in universe.markets}
    feature_checks = {market.name: features_checks_job(market) for market in universe.markets}
    completeness = {market.name: completeness_job(market) for market in universe.markets}
    events = {market.name: events_job(market) for market in stocks}
    return dg.Definitions(
        assets=[
            *(ohlcv_assets(market, calendars[market.name]) for market in universe.markets),
            *(feature_assets(market, calendars[market.name]) for market in universe.markets),
            *(completeness_asset(market, calendars[market.name]) for market in universe.markets),
            *(listings_asset(market) for market in stocks),
            *(events_asset(market) for market in stocks),
        ],
        jobs=[
            *jobs.values(),
            *checks.values(),
            *features.values(),
            *feature_checks.values(),
            *completeness.values(),
            *events.values(),
        ],
        schedules=[
            *(nightly_ohlcv(m, calendars[m.name], jobs[m.name]) for m in universe.markets),
            *(hourly_checks(m, checks[m.name]) for m in universe.markets),
            *(nightly_features(m, calendars[m.name], features[m.name]) for m in universe.markets),
            *(hourly_checks(m, feature_checks[m.name], "feature_checks_hourly", "features") for m in universe.markets),
            *(hourly_completeness(m, completeness[m.name]) for m in universe.markets),
            *(weekly_listings(m) for m in stocks),
            *(daily_events(m, events[m.name]) for m in stocks),
        ],
        sensors=[
            gap_repair_sensor(universe, calendars),
            stale_features_sensor(universe, calendars, list(features.values())),
            completeness_sensor(universe, completeness),
            check_alerts_sensor(universe),
            run_alerts_sensor(universe),
        ],
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


def ohlcv_checks_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that runs the checks of a market by themselves."""
    return dg.define_asset_job(
        f"{market.name}_ohlcv_checks",
        selection=dg.AssetSelection.checks(*(spec.key for spec in ohlcv_check_specs(market))),
        description=f"Look whether the {market.name} bars are complete and valid. Nothing is fetched.",
    )


def features_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that computes the features of all timeframes of a market."""
    return dg.define_asset_job(
        f"{market.name}_features_job",
        selection=dg.AssetSelection.key_prefixes([market.name, "features"]),
        description=f"Compute what is missing or out of date of the {market.name} features. Nothing is fetched.",
    )


def features_checks_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that runs the checks of a market's features by themselves."""
    return dg.define_asset_job(
        f"{market.name}_features_checks",
        selection=dg.AssetSelection.checks(*(spec.key for spec in feature_check_specs(market))),
        description=f"Look whether the {market.name} features are complete, fresh and in range. Nothing is computed.",
    )


def completeness_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that measures how complete a market is."""
    return dg.define_asset_job(
        f"{market.name}_completeness_job",
        selection=dg.AssetSelection.assets(completeness_key(market)),
        description=f"Measure how complete the {market.name} bars are. Nothing is fetched.",
    )


def events_job(market: Market) -> dg.UnresolvedAssetJobDefinition:
    """The job that keeps the splits and dividends of a market."""
    return dg.define_asset_job(
        f"{market.name}_events_job",
        selection=dg.AssetSelection.assets(events_key(market)),
        description=f"Ask for the splits and dividends of the {market.name} symbols.",
    )
