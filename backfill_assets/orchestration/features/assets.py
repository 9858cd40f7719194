"""Features of the bars: one multi-asset a market, one asset a timeframe.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.deployment.runs import interruptible, run_start
from backfill_assets.domain.run_record import RunKind
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import report_checks
from backfill_assets.orchestration.features.checks import feature_check_outcomes, feature_check_specs
from backfill_assets.orchestration.features.specs import features_spec
from backfill_assets.orchestration.keys import features_key
from backfill_assets.orchestration.materializations import bars_cell, mark_materialized
from backfill_assets.orchestration.partitions import cells, market_partitions, partition_key
from backfill_assets.orchestration.resources import Clock, MarketStore, Watcher
from backfill_assets.pipelines.feature_health import examine_features
from backfill_assets.pipelines.feature_runs import FeatureRun, FilledFeatures, recorded_features


class FeaturesConfig(dg.Config):
    """How a run computes."""

    max_concurrent: int = Field(default=5, ge=1, le=50, description="Symbols that are worked on at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all where it is empty.")
    full: bool = Field(default=False, description="Compute again what is up to date too.")


def feature_assets(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """The features of a market: assets such as `stocks/features_1m`, partitioned by session day and symbol."""

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
        run, filled, health = None, None, None
        with interruptible(context), FeatureStore(store.url(), connections=config.max_concurrent) as table:
            if context.selected_asset_keys:  # none where the checks run alone
                run = _run(context, config, market)
            if run:
                start = run_start(context, RunKind.FEATURES, market, clock.now())
                filled = await recorded_features(start, run, table, clock.now, watcher.feature_progress())
            if checked:
                days = run.order.days if run else None
                health = await asyncio.to_thread(examine_features, table, market, calendar, clock.now(), days)
        if run and filled:
            _report(context, run, filled)
        if health:
            for result in report_checks(store, clock, feature_check_outcomes(market, checked, health)):
                yield result
        if filled and filled.computation.failure:
            raise filled.computation.failure

    return features


def _run(context: dg.AssetExecutionContext, config: FeaturesConfig, market: Market) -> FeatureRun | None:
    """What the run's partitions and config name; None where they name no symbol."""
    wanted = {
        symbol: tuple(days)
        for symbol, days in cells(context.partition_keys, market).items()
        if not config.symbols or symbol.name in config.symbols
    }
    if not wanted:
        return None
    timeframes = tuple(t for t in market.timeframes if features_key(market, t) in context.selected_asset_keys)
    return FeatureRun(market, wanted, timeframes, full=config.full, at_once=config.max_concurrent)


def _report(context: dg.AssetExecutionContext, run: FeatureRun, filled: FilledFeatures) -> None:
    """Mark materialized exactly the partitions whose session has bars, each with its row."""
    symbols = {symbol.name: symbol for symbol in run.wanted}
    for timeframe in run.timeframes:
        found = [s for s in filled.sessions if s.timeframe == timeframe.name]
        whole = {
            partition_key(s.session, symbols[s.symbol]): bars_cell(s.bars, s.first, s.last) for s in found if s.whole
        }
        mark_materialized(context, features_key(run.market, timeframe), whole)
        context.log.info(
            "%s: %d rows written; %d partitions have their features, %d lack some, %d have no bars.",
            timeframe,
            sum(c.rows for c in filled.computation.done if c.timeframe == timeframe),
            len(whole),
            len(found) - len(whole),
            sum(map(len, run.wanted.values())) - len(found),
        )
