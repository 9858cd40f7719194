"""Which partitions of a market are covered by runs and backfills in progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import dagster as dg

from backfill_assets.deployment.private_api import UnfinishedBackfill
from backfill_assets.deployment.runs import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, REPAIR_TAG
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import OHLCV, family_of
from backfill_assets.orchestration.partitions import cells

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def unfinished_runs(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Return the runs that are queued or in progress."""
    return instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))


def targets(run: dg.DagsterRun, market: Market, family: str) -> bool:
    """Whether a run targets assets of a family (`ohlcv`, `features`) of a market."""
    job = f"{market.name}_{family}_job"
    return run.job_name == job or any(family_of(key) == (market.name, family) for key in run.asset_selection or ())


def busy_days(
    instance: dg.DagsterInstance, backfills: Iterable[UnfinishedBackfill], market: Market
) -> dict[str, list[DayRange]]:
    """Return by symbol the days of a market that runs and backfills in progress fetch."""
    found: dict[str, list[DayRange]] = {}
    for run in unfinished_runs(instance):
        if targets(run, market, OHLCV):
            for symbol, days in _rectangle(run.tags, market).items():
                found.setdefault(symbol, []).append(days)
    for backfill in backfills:
        keys = {k for asset, ks in backfill.partitions.items() if family_of(asset) == (market.name, OHLCV) for k in ks}
        for target, sessions in cells(keys, market).items():
            found.setdefault(target.name, []).append(DayRange(sessions[0], sessions[-1]))
    return found


def in_progress(
    instance: dg.DagsterInstance, backfills: Iterable[UnfinishedBackfill], market: Market, family: str
) -> str | None:
    """Name a run or backfill in progress that targets a family of a market, or return None."""
    for run in unfinished_runs(instance):
        if targets(run, market, family):
            return f"run {run.run_id[:8]}"
    for backfill in backfills:
        if any(family_of(asset) == (market.name, family) for asset in backfill.partitions):
            return f"backfill {backfill.backfill_id}"
    return None


def repair_in_progress(backfills: Iterable[UnfinishedBackfill], market: Market) -> str | None:
    """Return the id of the repair of a market that is in progress, or None."""
    return next((b.backfill_id for b in backfills if b.tags.get(REPAIR_TAG) == market.name), None)


def _rectangle(tags: Mapping[str, str], market: Market) -> dict[str, DayRange]:
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG)
    last = tags.get(RANGE_END_TAG) or first
    if first is None or last is None:
        return {}
    (start, one), (end, other) = _cell(first), _cell(last)
    names = [s.name for s in market.symbols]
    if one not in names or other not in names or end < start:
        return {}
    return {name: DayRange(start, end) for name in names[names.index(one) : names.index(other) + 1]}


def _cell(key: str) -> tuple[date, str]:
    day, _, symbol = key.partition("|")
    return date.fromisoformat(day), symbol
