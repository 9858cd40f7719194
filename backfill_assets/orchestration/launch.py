"""Runs that a command carries out in its own process, seen in Dagit like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from types import MappingProxyType

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.private_api import create_local_run, execute_local_run, quiet_storage, records_needed
from backfill_assets.deployment.runs import close_records, end_dead_runs, run_failure, this_process
from backfill_assets.deployment.storage import DataFolderComputeLogs
from backfill_assets.deployment.tags import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.orchestration.keys import features_key, ohlcv_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.outcomes import Outcome

type Key = Callable[[Market, Timeframe], dg.AssetKey]
"""How the assets of a family are called."""


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of the project's dagster.yaml, for a command: what its runs print goes into their logs only.

    Raises DatabaseUnavailable wherever in the context Dagster's records cannot be reached or written; nothing else is said.
    """
    with records_needed(), quiet_storage(), dg.DagsterInstance.from_config(str(settings.project)) as instance:
        if isinstance(instance.compute_log_manager, DataFolderComputeLogs):
            instance.compute_log_manager.mirrored = False
        yield instance


@contextmanager
def open_for_runs(settings: Settings, store: Store) -> Iterator[dg.DagsterInstance]:
    """The same for a command that carries runs out: those that died are ended first, and their records closed."""
    with open_instance(settings) as instance:
        end_dead_runs(instance)
        close_records(instance, RunStore.beside(store))
        yield instance


def carry_out(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    settings: Settings,
    request: BackfillRequest,
    max_concurrent: int,
) -> Outcome:
    """Fill a request as one Dagster run of its market's job, in this process."""
    config = {"max_concurrent": max_concurrent, "refresh": request.refresh.name, "retry": request.retry.name}
    return _carry_out(instance, defs, settings, request, "ohlcv", ohlcv_key, config)


def carry_out_features(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    settings: Settings,
    request: BackfillRequest,
    max_concurrent: int,
    *,
    full: bool,
) -> Outcome:
    """Compute the features of what a request names, as one Dagster run of its market's job, in this process."""
    config = {"max_concurrent": max_concurrent, "full": full}
    return _carry_out(instance, defs, settings, request, "features", features_key, config)


def _carry_out(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    settings: Settings,
    request: BackfillRequest,
    family: str,
    key: Key,
    config: Mapping[str, object],
) -> Outcome:
    """A run over a family of a market's assets.

    It targets the rectangle of sessions x symbols around the request, which is what a range of partitions can say; its config
    names the symbols that are meant.
    """
    market, days = request.market, request.days
    if days is None:
        raise ValueError("a request without sessions has nothing to run")
    first, last = _corners(request, days.start, days.end)
    narrowed = {"symbols": [s.name for s in request.wanted]} if len(request.wanted) < len(market.symbols) else {}
    return carry_out_job(
        instance,
        defs.resolve_job_def(f"{market.name}_{family}_job"),
        settings,
        assets=frozenset(key(market, t) for t in request.timeframes),
        tags={RANGE_START_TAG: first, RANGE_END_TAG: last},
        ops={f"{market.name}_{family}": {"config": {**config, **narrowed}}},
    )


def carry_out_job(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    settings: Settings,
    *,
    assets: frozenset[dg.AssetKey],
    tags: Mapping[str, str] = MappingProxyType({}),
    ops: Mapping[str, object] = MappingProxyType({}),
) -> Outcome:
    """Materialize assets of a job as one run in this process; `ops` is its config by op.

    Raises KeyboardInterrupt where it was interrupted.
    """
    run = create_local_run(
        instance,
        job,
        settings.project / "workspace.yaml",
        assets=assets,
        tags={
            **tags,
            # Whoever started it sees that it failed, and runs the same command again.
            "dagster/max_retries": "0",
            TRIGGER_TAG: "command line",
            **this_process(),
        },
        run_config={"ops": dict(ops), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    try:
        succeeded = execute_local_run(instance, job, run)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    ended = instance.get_run_by_id(run.run_id)
    if ended is not None and ended.status is dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    if succeeded:
        return Outcome(run.run_id)
    failure = run_failure(instance, run.run_id)
    return Outcome(run.run_id, failure.sentence, failure.kind)


def _corners(request: BackfillRequest, start: date, end: date) -> tuple[str, str]:
    symbols: Sequence[Symbol] = [s for s in request.market.symbols if s in request.wanted]
    return partition_key(start, symbols[0]), partition_key(end, symbols[-1])


def all_shown(instance: dg.DagsterInstance, request: BackfillRequest, answers: SeriesAnswers) -> bool:
    """Whether Dagster already shows every wanted session that has bars as materialized."""

    def there(symbol: Symbol, timeframe: Timeframe) -> Iterable[date]:
        recorded = answers.get((symbol.name, timeframe.name), {})
        return (s for s in request.wanted[symbol] if s in recorded and recorded[s].bars)

    return _all_shown(instance, request, ohlcv_key, there)


def all_features_shown(
    instance: dg.DagsterInstance, request: BackfillRequest, sessions: Iterable[FeatureSession]
) -> bool:
    """Whether Dagster already shows every wanted session that has all its features as materialized."""
    whole = {(s.symbol, s.timeframe, s.session) for s in sessions if s.whole}

    def there(symbol: Symbol, timeframe: Timeframe) -> Iterable[date]:
        return (s for s in request.wanted[symbol] if (symbol.name, timeframe.name, s) in whole)

    return _all_shown(instance, request, features_key, there)


def _all_shown(
    instance: dg.DagsterInstance,
    request: BackfillRequest,
    key: Key,
    there: Callable[[Symbol, Timeframe], Iterable[date]],
) -> bool:
    for timeframe in request.timeframes:
        shown = instance.get_materialized_partitions(key(request.market, timeframe))
        if any(partition_key(s, symbol) not in shown for symbol in request.wanted for s in there(symbol, timeframe)):
            return False
    return True
