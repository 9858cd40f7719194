"""The runs that have ended, sorted by what they worked on, and what that says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from backfill_assets.deployment.runs import ended_at, run_failure
from backfill_assets.deployment.tags import PROCESS_TAG, WILL_RETRY_TAG
from backfill_assets.domain.alert_rules import FailedDaysSeen, Failure, Observation, WorkSeen
from backfill_assets.domain.runs import EndedRun, failed_days, unresolved_failure
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.pipelines.ohlcv import SeriesFailed

LOOK_BACK = timedelta(days=14)
"""Longer than any row of failed days that anybody need be told the length of."""

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_OF_DAGSTER = "__"
"""Job names that Dagster makes up begin so: what such a run worked on, its assets say."""

_JOBS = {
    "ohlcv": "ohlcv_job",
    "features": "features_job",
    "completeness": "completeness_job",
    "corporate_events": "events_job",
}
"""The jobs of a market, by its assets' second name."""

_CURES = {
    "ohlcv_job": "backfill run --markets {}",
    "features_job": "backfill features --markets {}",
    "events_job": "backfill events --markets {}",
}


def newest_change(instance: dg.DagsterInstance) -> datetime | None:
    """When the record of an ended run changed last (UTC), None where no run has ended."""
    newest = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=1, order_by="update_timestamp")
    return newest[0].update_timestamp.astimezone(UTC) if newest else None


def runs_seen(instance: dg.DagsterInstance, universe: Universe, now: datetime) -> list[Observation]:
    """How every job stands that a run of the last 14 days belongs to, and how many days each market's bars have failed."""
    filters = dg.RunsFilter(statuses=_ENDED, updated_after=now - LOOK_BACK)
    by_work: dict[str, dict[str, dg.RunRecord]] = {}
    for record in instance.get_run_records(filters):
        for work in works(record.dagster_run):
            by_work.setdefault(work, {})[record.dagster_run.run_id] = record
    seen: list[Observation] = [_work(instance, work, records, universe) for work, records in by_work.items()]
    for market in universe.markets:
        records = by_work.get(f"{market.name}_ohlcv_job", {})
        if ended := [_ended(record) for record in records.values()]:
            days = failed_days(ended)
            newest = max(ended, key=lambda run: run.ended_at)
            seen.append(FailedDaysSeen(market.name, days, newest.run if days else None))
    return seen


def works(run: dg.DagsterRun) -> set[str]:
    """The jobs that a run belongs to: its own, or, where Dagster made it for a selection of assets, those of the assets.

    `stocks/listings` for assets that have no job of their own.
    """
    if not run.job_name.startswith(_OF_DAGSTER):
        return {run.job_name}
    if run.asset_selection:
        return {_job_of(key) for key in run.asset_selection}
    if run.asset_check_selection:
        return {f"{'_'.join(check.asset_key.path[:2])}_checks" for check in run.asset_check_selection}
    return {run.job_name}


def _job_of(key: dg.AssetKey) -> str:
    market, *rest = key.path
    return f"{market}_{_JOBS[rest[0]]}" if rest and rest[0] in _JOBS else "/".join(key.path)


def watched_works(repository: dg.RepositoryDefinition) -> set[str]:
    """All that `works` may answer for this repository."""
    assets = repository.asset_graph.get_all_asset_keys()
    checks = {f"{'_'.join(check.asset_key.path[:2])}_checks" for check in repository.asset_graph.asset_check_keys}
    return {*repository.job_names, *map(_job_of, assets), *checks}


def _work(instance: dg.DagsterInstance, work: str, records: Mapping[str, dg.RunRecord], universe: Universe) -> WorkSeen:
    market, job = _parted(work, universe.markets)
    features = job == "features_job"

    def harmless(run: EndedRun) -> bool:
        return not features and run_failure(instance, run.run).kind == SeriesFailed.__name__

    cure = _CURES[job].format(market) if market and job in _CURES else None
    failed = unresolved_failure((_ended(record) for record in records.values()), harmless)
    if failed is None:
        return WorkSeen(work, None, features, cure)
    return WorkSeen(work, _failure(instance, records[failed.run].dagster_run), features, cure)


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Failure:
    failure = run_failure(instance, run.run_id)
    retried = run.tags.get(WILL_RETRY_TAG) == "true"
    abandoned = PROCESS_TAG in run.tags and not failure.kind
    sentence = f"{failure.sentence.removesuffix('.')}. It is tried again." if retried else failure.sentence
    return Failure(run.run_id, sentence, passing=retried or abandoned)


def _parted(work: str, markets: Iterable[Market]) -> tuple[str, str]:
    """A job's market and the rest of its name; both empty where it is of none."""
    # A market's name may begin with another one's.
    fitting = [m.name for m in markets if work.startswith(f"{m.name}_")]
    market = max(fitting, key=len, default="")
    return market, work.removeprefix(f"{market}_") if market else ""


def _ended(record: dg.RunRecord) -> EndedRun:
    end = ended_at(record)
    start = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else end
    succeeded = record.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    return EndedRun(record.dagster_run.run_id, succeeded, start, end)
