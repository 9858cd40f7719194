"""Wires the definitions: universe and environment in, Dagster definitions out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.sources import POLYGON_FILES
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.alerts.sensors import check_alerts_sensor, run_alerts_sensor
from backfill_assets.orchestration.archives.assets import archive_assets, archive_schedule
from backfill_assets.orchestration.completeness.assets import completeness_asset
from backfill_assets.orchestration.completeness.sensors import completeness_sensor
from backfill_assets.orchestration.corporate_actions.assets import corporate_events_asset
from backfill_assets.orchestration.exports.assets import export_assets
from backfill_assets.orchestration.features.assets import feature_assets
from backfill_assets.orchestration.features.sensors import stale_features_sensor
from backfill_assets.orchestration.listings.assets import listings_asset
from backfill_assets.orchestration.ohlcv.assets import ohlcv_assets
from backfill_assets.orchestration.ohlcv.flat_files import flat_files_sensor
from backfill_assets.orchestration.ohlcv.sensors import gap_repair_sensor
from backfill_assets.orchestration.resources import default_resources
from backfill_assets.orchestration.retention import purge_schedule
from backfill_assets.orchestration.schedules import market_schedules
from backfill_assets.pipelines.backfill_request import market_calendar


def build_definitions(
    *,
    universe: Universe | None = None,
    today: date | None = None,
    resources: Mapping[str, object] | None = None,
) -> dg.Definitions:
    """Build all assets, jobs, schedules and sensors of a universe.

    To use them in another Dagster project, merge them with its own definitions::

        defs = dg.Definitions.merge(build_definitions(), dg.Definitions(assets=[...], resources={...}))

    `Definitions.merge` raises an error if both define a resource of the same name, unless it is the same object: the names
    here are `clock`, `watcher`, `store` and `polygon`. It also raises if both define an executor; the one here, in_process,
    then runs all jobs. The Dagster instance needs the settings of this project's dagster.yaml.

    universe   read from BACKFILL_UNIVERSE if None; files of its bars are assets if BACKFILL_EXPORT is set
    today      the day that partitions reach to; today's date (UTC) if None
    resources  replace the default resources by name

    Raises UniverseMistake and SettingMistake.
    """
    today = today or datetime.now(UTC).date()
    settings = Settings.read()
    universe = universe or settings.universe(today)
    calendars = {market.name: market_calendar(market, today) for market in universe.markets}
    assets: list[dg.AssetsDefinition] = []
    schedules: list[dg.ScheduleDefinition] = [purge_schedule()]
    for market in universe.markets:
        calendar = calendars[market.name]
        assets += [
            ohlcv_assets(market, calendar, universe.archives),
            feature_assets(market, calendar),
            completeness_asset(market, calendar),
        ]
        if market.kind is Kind.STOCKS:
            assets += [listings_asset(market), corporate_events_asset(market)]
        if settings.export_to:
            assets.append(export_assets(market, settings.export_to))
        schedules += market_schedules(market, calendar, exports=bool(settings.export_to))
    for archive in universe.archives:
        calendar = market_calendar(archive, today)
        assets.append(archive_assets(archive, calendar))
        schedules.append(archive_schedule(archive, calendar))
    jobs = {schedule.job.name: schedule.job for schedule in schedules}
    filed = [jobs[f"{m.name}_ohlcv_job"] for m in universe.markets if POLYGON_FILES in m.sources]
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values()],
        schedules=schedules,
        sensors=[
            gap_repair_sensor(universe, calendars),
            stale_features_sensor(universe, calendars, [jobs[f"{m.name}_features_job"] for m in universe.markets]),
            completeness_sensor(universe, [jobs[f"{m.name}_completeness_job"] for m in universe.markets]),
            check_alerts_sensor(universe),
            run_alerts_sensor(universe),
            *([flat_files_sensor(universe, calendars, filed)] if filed else []),
        ],
        resources={**default_resources(), **(resources or {})},
        executor=dg.in_process_executor,
    )
