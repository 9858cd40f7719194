"""Observe jobs by their runs that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from backfill_assets.deployment.runs import PROCESS_TAG, WILL_RETRY_TAG, KeyRefusal, ended_at, run_failure
from backfill_assets.domain.alert_rules import (
    FailedDaysObservation,
    Failure,
    JobObservation,
    KeyObservation,
    Observation,
)
from backfill_assets.domain.errors import KeyRefused
from backfill_assets.domain.runs import EndedRun, failed_days, unresolved_failure
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.keys import family_of
from backfill_assets.orchestration.schedules import JOBS, market_jobs
from backfill_assets.pipelines.ohlcv import SeriesFailed

LOOK_BACK = timedelta(days=14)
"""How many consecutive failed days are counted at most."""

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_MADE_BY_DAGSTER = "__"
"""Prefix of the jobs that Dagster creates for a selection of assets."""

_JOB_OF_FAMILY = {job.family: job.name for job in JOBS if not job.name.endswith("_checks")}


def newest_change(instance: dg.DagsterInstance) -> datetime | None:
    """Return when the record of an ended run last changed (UTC), or None if no run has ended."""
    newest = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=1, order_by="update_timestamp")
    return newest[0].update_timestamp.astimezone(UTC) if newest else None


def observe_runs(
    instance: dg.DagsterInstance, universe: Universe, refusal: KeyRefusal | None, now: datetime
) -> list[Observation]:
    """Observe the key, every job with a run in the last 14 days, and the failed days of each market's bars.

    While the key is refused, no failed days are counted.
    """
    filters = dg.RunsFilter(statuses=_ENDED, updated_after=now - LOOK_BACK)
    by_job: dict[str, dict[str, dg.RunRecord]] = {}
    for record in instance.get_run_records(filters):
        for job in jobs_of(record.dagster_run):
            by_job.setdefault(job, {})[record.dagster_run.run_id] = record
    repairs = {
        name: job.repair.format(market=market.name)
        for market in universe.markets
        for name, job in market_jobs(market).items()
        if job.repair
    }
    features = {f"{market.name}_features_job" for market in universe.markets}
    found: list[Observation] = [KeyObservation(Failure(refusal.run_id, refusal.sentence) if refusal else None)]
    found += [
        JobObservation(
            job, _last_failure(instance, records, any_failure=job in features), job in features, repairs.get(job)
        )
        for job, records in by_job.items()
    ]
    for market in () if refusal else universe.markets:
        if ended := [_ended(record) for record in by_job.get(f"{market.name}_ohlcv_job", {}).values()]:
            days = failed_days(ended)
            newest = max(ended, key=lambda run: run.ended_at)
            found.append(FailedDaysObservation(market.name, days, newest.run if days else None))
    return found


def jobs_of(run: dg.DagsterRun) -> set[str]:
    """Return the jobs that a run belongs to: its own, or those of its assets if Dagster created its job for a selection.

    Assets without a job are named by their key.
    """
    if not run.job_name.startswith(_MADE_BY_DAGSTER):
        return {run.job_name}
    if run.asset_selection:
        return {_job_of(key) for key in run.asset_selection}
    if run.asset_check_selection:
        return {_checks_job_of(check) for check in run.asset_check_selection}
    return {run.job_name}


def _job_of(key: dg.AssetKey) -> str:
    market, family = family_of(key)
    return f"{market}_{_JOB_OF_FAMILY[family]}" if family in _JOB_OF_FAMILY else key.to_user_string()


def _checks_job_of(check: dg.AssetCheckKey) -> str:
    return f"{'_'.join(family_of(check.asset_key))}_checks"


def watched_jobs(repository: dg.RepositoryDefinition) -> set[str]:
    """Return everything that `jobs_of` may return for this repository."""
    graph = repository.asset_graph
    return {
        *repository.job_names,
        *map(_job_of, graph.get_all_asset_keys()),
        *map(_checks_job_of, graph.asset_check_keys),
    }


def _last_failure(
    instance: dg.DagsterInstance, records: Mapping[str, dg.RunRecord], *, any_failure: bool
) -> Failure | None:
    """Return the last failure that no later run has resolved, except those that have alerts of their own.

    These are single series, which are gaps, and a refused key.
    """

    def harmless(run: EndedRun) -> bool:
        return not any_failure and run_failure(instance, run.run).kind in {SeriesFailed.__name__, KeyRefused.__name__}

    failed = unresolved_failure((_ended(record) for record in records.values()), harmless)
    if failed is None:
        return None
    run = records[failed.run].dagster_run
    failure = run_failure(instance, run.run_id)
    retried = run.tags.get(WILL_RETRY_TAG) == "true"
    abandoned = PROCESS_TAG in run.tags and not failure.kind
    sentence = f"{failure.sentence.removesuffix('.')}. It will be retried." if retried else failure.sentence
    return Failure(run.run_id, sentence, passing=retried or abandoned)


def _ended(record: dg.RunRecord) -> EndedRun:
    end = ended_at(record)
    start = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else end
    succeeded = record.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    return EndedRun(record.dagster_run.run_id, succeeded, start, end)
