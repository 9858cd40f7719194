"""The sensor that recomputes features that changed bars and splits have made out of date.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg

from backfill_assets.adapters.store.features import FeatureStore, StaleSeries
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.private_api import UnfinishedBackfill, records_needed, unfinished_backfills
from backfill_assets.deployment.runs import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG, end_dead_runs
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.orchestration.in_flight import in_progress
from backfill_assets.orchestration.keys import FEATURES, OHLCV, features_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.feature_health import stale_sessions

EVERY_SECONDS = 60


def stale_features_sensor(
    universe: Universe, calendars: Mapping[str, Calendar], jobs: Sequence["dg.UnresolvedAssetJobDefinition"]
) -> dg.SensorDefinition:
    """Define one sensor for all markets, on by default. `calendars` by market name; `jobs` compute the features."""

    @dg.sensor(
        name="stale_features",
        jobs=jobs,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches a run over the features that changed bars and splits have made out of date. Waits while runs "
        "of the market are in progress, and retries once an hour what a run did not bring up to date.",
    )
    @records_needed()
    def stale_features(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor needs its repository")
        found = []
        with FeatureStore(store.url(), connections=1) as table:
            end_dead_runs(context.instance, RunStore.beside(table))
            backfills = unfinished_backfills(context.instance, repository)
            for market in universe.markets:
                stale = stale_sessions(table, market, calendars[market.name], clock.now())
                found.append(_request(context.instance, backfills, market, stale, clock.now()))
        requests = [each for each in found if isinstance(each, dg.RunRequest)]
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SensorResult(skip_reason=" ".join(each for each in found if isinstance(each, str)))

    return stale_features


def _request(
    instance: dg.DagsterInstance,
    backfills: Sequence[UnfinishedBackfill],
    market: Market,
    stale: Sequence[tuple[StaleSeries, DayRange]],
    now: datetime,
) -> dg.RunRequest | str:
    """Return the run that a market needs, or the reason why it needs none."""
    if not stale:
        return f"{market.name}: all features are up to date."
    for family, name in ((FEATURES, "features"), (OHLCV, "bars")):
        if blocker := in_progress(instance, backfills, market, family):
            return f"{market.name}: waits for {blocker} of its {name}."
    names = {series.symbol for series, _ in stale}
    timeframes = {series.timeframe for series, _ in stale}
    symbols = [symbol for symbol in market.symbols if symbol.name in names]
    start, end = min(days.start for _, days in stale), max(days.end for _, days in stale)
    narrowed = {"symbols": [s.name for s in symbols]} if len(symbols) < len(market.symbols) else {}
    return dg.RunRequest(
        # Any change makes a newer mark. What a run has left out of date is retried once an hour.
        run_key=f"{market.name} {max(series.newest_mark for series, _ in stale)} {now:%Y-%m-%dT%H}",
        job_name=f"{market.name}_features_job",
        asset_selection=[features_key(market, t) for t in market.timeframes if t.name in timeframes],
        tags={
            RANGE_START_TAG: partition_key(start, symbols[0]),
            RANGE_END_TAG: partition_key(end, symbols[-1]),
            TRIGGER_TAG: "stale features",
        },
        run_config={"ops": {f"{market.name}_features": {"config": narrowed}}},
    )
