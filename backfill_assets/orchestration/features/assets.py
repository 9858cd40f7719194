"""Features of the bars: one multi-asset a market, one asset a timeframe.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.deployment.runs import interruptible, run_start, step_failure
from backfill_assets.domain.runs import RunKind
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import outcomes_of, report_checks
from backfill_assets.orchestration.features.checks import CHECKS, feature_check_specs
from backfill_assets.orchestration.features.specs import features_spec
from backfill_assets.orchestration.keys import features_key
from backfill_assets.orchestration.partitions import cells, mark_materialized, market_partitions
from backfill_assets.orchestration.resources import Clock, MarketStore, Watcher
from backfill_assets.pipelines.feature_health import examine_features
from backfill_assets.pipelines.features import Computation, FeatureRequest, compute_recorded


class FeaturesConfig(dg.Config):
    """How a run computes."""

    max_concurrent: int = Field(default=5, ge=1, le=50, description="Symbols computed at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all if empty.")
    full: bool = Field(default=False, description="Compute also what is up to date.")


def feature_assets(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """Define the features of a market: assets such as `stocks/features_1m`, partitioned by session day and symbol."""

    @dg.multi_asset(
        name=f"{market.name}_features",
        specs=[features_spec(market, calendar, timeframe) for timeframe in market.timeframes],
        partitions_def=market_partitions(market, calendar),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        check_specs=feature_check_specs(market),
    )
    async def features(  # type: ignore[no-untyped-def]  # noqa: ANN202  # Dagster takes an annotation for the outputs' types
        context: dg.AssetExecutionContext, config: FeaturesConfig, clock: Clock, watcher: Watcher, store: MarketStore
    ):
        checked = context.selected_asset_check_keys
        request, failure = None, None
        results: list[dg.AssetCheckResult] = []
        with interruptible(context), FeatureStore(store.url(), connections=config.max_concurrent) as table:
            if context.selected_asset_keys:  # empty if the checks run alone
                request = _request(context, config, market)
            if request:
                start = run_start(context, RunKind.FEATURES, market, clock.now())
                computation, sessions = await compute_recorded(
                    start,
                    request,
                    table,
                    clock.now,
                    at_once=config.max_concurrent,
                    progress=watcher.feature_progress(),
                )
                failure = computation.failure
            if checked:
                days = request.days if request else None
                health = await asyncio.to_thread(examine_features, table, market, calendar, clock.now(), days)
                timeframes = {features_key(market, timeframe): timeframe for timeframe in market.timeframes}
                results = report_checks(table, clock, outcomes_of(timeframes, checked, CHECKS, health))
        if request:
            _mark(context, request, computation, sessions)
        for result in results:
            yield result
        if failure:
            raise step_failure(failure) from failure

    return features


def _request(context: dg.AssetExecutionContext, config: FeaturesConfig, market: Market) -> FeatureRequest | None:
    """Return what the run's partitions and config select, or None if they select no symbol."""
    wanted = {
        symbol: days
        for symbol, days in cells(context.partition_keys, market).items()
        if not config.symbols or symbol.name in config.symbols
    }
    timeframes = tuple(t for t in market.timeframes if features_key(market, t) in context.selected_asset_keys)
    return FeatureRequest(market, wanted, timeframes, full=config.full) if wanted else None


def _mark(
    context: dg.AssetExecutionContext,
    request: FeatureRequest,
    computation: Computation,
    sessions: Sequence[FeatureSession],
) -> None:
    """Mark the sessions as materialized whose bars all have a feature row."""
    symbols = {symbol.name: symbol for symbol in request.wanted}
    for timeframe in request.timeframes:
        found = [s for s in sessions if s.timeframe == timeframe.name]
        complete = [s for s in found if s.complete]
        mark_materialized(context, features_key(request.market, timeframe), ((symbols[s.symbol], s) for s in complete))
        context.log.info(
            "%s: %d rows written; %d partitions have all features, %d miss some, %d have no bars.",
            timeframe,
            sum(c.rows for c in computation.done if c.timeframe == timeframe),
            len(complete),
            len(found) - len(complete),
            sum(map(len, request.wanted.values())) - len(found),
        )
