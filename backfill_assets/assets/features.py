"""Features of the bars: one multi-asset a market, one asset a timeframe.

What lives here: the factory, and what Dagster is told of a run. What does not: the flow (`pipelines.features`), the catalog's
words.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.store.feature_quality import FeatureQuality, FeatureSession
from backfill_assets.adapters.store.features import FeatureStore, UnusableBars
from backfill_assets.asset_keys import features_key
from backfill_assets.assets.features_catalog import features_spec
from backfill_assets.assets.materializations import bars_cell, mark_materialized
from backfill_assets.checks.features import feature_check_results, feature_check_specs
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.interrupts import interruptible
from backfill_assets.partitions import cells, market_partitions, partition_key
from backfill_assets.pipelines.feature_health import examine_features
from backfill_assets.pipelines.features import Computed, FeatureOrder, fill_features
from backfill_assets.resources import Clock, MarketStore, Watcher


class FeaturesConfig(dg.Config):
    """How a run computes."""

    max_concurrent: int = Field(default=5, ge=1, le=50, description="Symbols that are worked on at a time.")
    symbols: list[str] = Field(default=[], description="Only these of the run's symbols; all where it is empty.")
    full: bool = Field(default=False, description="Compute again what is up to date too.")


@dataclass(frozen=True, slots=True)
class _Filled:
    """What a run was asked for, what it did, how the sessions stand that have bars, and what is to be raised at the end."""

    wanted: dict[Symbol, tuple[date, ...]]
    order: FeatureOrder
    computed: Sequence[Computed]
    sessions: Sequence[FeatureSession]
    failure: UnusableBars | None


def feature_assets(market: Market, calendar: Calendar) -> dg.AssetsDefinition:
    """The features of a market: assets `[market, "features", timeframe]`, partitioned by session day and symbol."""

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
        filled, health = None, None
        with interruptible(context), FeatureStore(store.url(), connections=config.max_concurrent) as table:
            if context.selected_asset_keys:  # none where the checks run alone
                filled = await _fill(context, config, market, table, watcher)
            if checked:
                days = filled.order.days if filled else None
                health = await asyncio.to_thread(examine_features, table, market, calendar, clock.now(), days)
        if filled:
            for materialized in _report(context, filled):
                yield materialized
        if health:
            for result in feature_check_results(market, checked, health):
                yield result
        if filled and filled.failure:
            raise filled.failure

    return features


async def _fill(
    context: dg.AssetExecutionContext, config: FeaturesConfig, market: Market, table: FeatureStore, watcher: Watcher
) -> _Filled | None:
    """Bring what the run's partitions and config name up to date; None where they name no symbol."""
    wanted = {
        symbol: days
        for symbol, days in cells(context.partition_keys, market).items()
        if not config.symbols or symbol.name in config.symbols
    }
    if not wanted:
        return None
    timeframes = tuple(t for t in market.timeframes if features_key(market, t) in context.selected_asset_keys)
    days = DayRange(min(d[0] for d in wanted.values()), max(d[-1] for d in wanted.values()))
    order = FeatureOrder(market, tuple(wanted), timeframes, days, full=config.full)
    computed, failure = list[Computed](), None
    try:
        computed = await fill_features(order, table, at_once=config.max_concurrent, progress=watcher.feature_progress())
    except UnusableBars as error:  # of some series; the others are up to date
        failure = error
    quality = FeatureQuality.beside(table)
    sessions = await asyncio.to_thread(quality.sessions, [s.name for s in wanted], timeframes, days)
    return _Filled(wanted, order, computed, sessions, failure)


def _report(context: dg.AssetExecutionContext, filled: _Filled) -> Iterator[dg.MaterializeResult[None]]:
    """Mark materialized exactly the partitions whose session has bars, each with its row."""
    order = filled.order
    symbols = {s.name: (s, frozenset(days)) for s, days in filled.wanted.items()}
    for timeframe in order.timeframes:
        found = [s for s in filled.sessions if s.timeframe == timeframe.name and s.session in symbols[s.symbol][1]]
        whole = {
            partition_key(s.session, symbols[s.symbol][0]): bars_cell(s.bars, s.first, s.last) for s in found if s.whole
        }
        yield from mark_materialized(context, features_key(order.market, timeframe), whole)
        context.log.info(
            "%s: %d rows written; %d partitions have their features, %d lack some, %d have no bars.",
            timeframe,
            sum(c.rows for c in filled.computed if c.timeframe == timeframe),
            len(whole),
            len(found) - len(whole),
            sum(map(len, filled.wanted.values())) - len(found),
        )
