"""Runs that a command executes in its own process; the Dagster UI shows them like any other."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from types import MappingProxyType
from typing import Literal

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.environment import set_defaults
from backfill_assets.deployment.private_api import hide_retry_warnings, records_needed, run_in_process
from backfill_assets.deployment.runs import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    TRIGGER_TAG,
    close_records,
    end_dead_runs,
    run_failure,
    this_process,
)
from backfill_assets.deployment.storage import DataFolderComputeLogs
from backfill_assets.orchestration.keys import features_key, ohlcv_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest

type Family = Literal["ohlcv", "features"]
"""The partitioned assets of a market, as the names of its jobs and ops have them."""

_KEYS = {"ohlcv": ohlcv_key, "features": features_key}


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the instance of the project's dagster.yaml for a command; the output of its runs goes to their logs only.

    Raises DatabaseUnavailable wherever in the context Dagster's records cannot be read or written.
    """
    set_defaults()
    hide_retry_warnings()
    with records_needed(), dg.DagsterInstance.from_config(str(settings.project)) as instance:
        if isinstance(instance.compute_log_manager, DataFolderComputeLogs):
            instance.compute_log_manager.mirrored = False
        yield instance


@contextmanager
def open_for_runs(settings: Settings, store: Store) -> Iterator[dg.DagsterInstance]:
    """Open the instance for a command that executes runs, after marking those failed whose process died."""
    with open_instance(settings) as instance:
        runs = RunStore.beside(store)
        end_dead_runs(instance, runs)
        close_records(instance, runs)
        yield instance


def run_family(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    settings: Settings,
    request: BackfillRequest,
    family: Family,
    config: Mapping[str, object],
) -> Outcome:
    """Materialize what a request names of a family of assets, as one run of the market's job in this process.

    A range of partitions is a rectangle of sessions and symbols, so the run targets the one that encloses the request; its
    config names the symbols. Raises ValueError if the request has no sessions.
    """
    market, days = request.market, request.days
    if days is None:
        raise ValueError("The request has no sessions.")
    symbols = [s for s in market.symbols if s in request.wanted]
    narrowed = {"symbols": [s.name for s in symbols]} if len(symbols) < len(market.symbols) else {}
    return run_job(
        instance,
        defs.resolve_job_def(f"{market.name}_{family}_job"),
        settings,
        assets=frozenset(_KEYS[family](market, t) for t in request.timeframes),
        tags={
            RANGE_START_TAG: partition_key(days.start, symbols[0]),
            RANGE_END_TAG: partition_key(days.end, symbols[-1]),
        },
        ops={f"{market.name}_{family}": {"config": {**config, **narrowed}}},
    )


def run_job(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    settings: Settings,
    *,
    assets: frozenset[dg.AssetKey],
    tags: Mapping[str, str] = MappingProxyType({}),
    ops: Mapping[str, object] = MappingProxyType({}),
) -> Outcome:
    """Materialize assets of a job as one run in this process; `ops` is the run config by op.

    Raises KeyboardInterrupt if the run was interrupted or canceled.
    """
    try:
        run = run_in_process(
            instance,
            job,
            settings.project / "workspace.yaml",
            assets=assets,
            tags={
                **tags,
                # The user sees that the command failed, and can run it again.
                "dagster/max_retries": "0",
                TRIGGER_TAG: "command line",
                **this_process(),
            },
            run_config={"ops": dict(ops), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    if run.status is dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    if run.is_success:
        return Outcome(run.run_id)
    failure = run_failure(instance, run.run_id)
    return Outcome(run.run_id, failure.sentence, failure.kind)


def all_materialized(instance: dg.DagsterInstance, request: BackfillRequest, answers: SeriesAnswers) -> bool:
    """Whether every requested session that has bars is materialized in Dagster."""
    stored = {(*series, day) for series, found in answers.items() for day, answer in found.items() if answer.bars}
    return _all_materialized(instance, request, "ohlcv", stored)


def all_features_materialized(
    instance: dg.DagsterInstance, request: BackfillRequest, sessions: Iterable[FeatureSession]
) -> bool:
    """Whether every requested session that has all its features is materialized in Dagster."""
    complete = {(s.symbol, s.timeframe, s.session) for s in sessions if s.complete}
    return _all_materialized(instance, request, "features", complete)


def _all_materialized(
    instance: dg.DagsterInstance, request: BackfillRequest, family: Family, expected: Container[tuple[str, str, date]]
) -> bool:
    for timeframe in request.timeframes:
        known = instance.get_materialized_partitions(_KEYS[family](request.market, timeframe))
        wanted = ((symbol, day) for symbol, days in request.wanted.items() for day in days)
        if any((s.name, timeframe.name, d) in expected and partition_key(d, s) not in known for s, d in wanted):
            return False
    return True
