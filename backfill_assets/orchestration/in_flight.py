"""Which partitions of a market runs and backfills under way cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import dagster as dg

from backfill_assets.deployment.private_api import UnfinishedBackfill
from backfill_assets.deployment.tags import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, REPAIR_TAG
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.partitions import cells

_OHLCV = "ohlcv"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def busy_days(
    instance: dg.DagsterInstance, backfills: Iterable[UnfinishedBackfill], market: Market
) -> dict[str, list[DayRange]]:
    """By symbol the days of a market that are being filled: the rectangle of each run, and each backfill's cells."""
    found: dict[str, list[DayRange]] = {}
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED)):
        if _concerns(run, market, _OHLCV):
            for symbol, days in _rectangle(run.tags, market).items():
                found.setdefault(symbol, []).append(days)
    for backfill in backfills:
        keys = {k for asset, keys in backfill.partitions.items() if _is_of(asset, market, _OHLCV) for k in keys}
        for target, sessions in cells(keys, market).items():
            found.setdefault(target.name, []).append(DayRange(sessions[0], sessions[-1]))
    return found


def at_work(
    instance: dg.DagsterInstance, backfills: Iterable[UnfinishedBackfill], market: Market, family: str
) -> str | None:
    """What is under way over a market's assets of a family (`ohlcv`, `features`), for a person; None where nothing is."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED)):
        if _concerns(run, market, family):
            return f"run {run.run_id[:8]}"
    for backfill in backfills:
        if any(_is_of(asset, market, family) for asset in backfill.partitions):
            return f"backfill {backfill.backfill_id}"
    return None


def repair_of(backfills: Iterable[UnfinishedBackfill], market: Market) -> str | None:
    """The id of the repair of a market that is under way, or None."""
    return next((b.backfill_id for b in backfills if b.tags.get(REPAIR_TAG) == market.name), None)


def _concerns(run: dg.DagsterRun, market: Market, family: str) -> bool:
    selected = run.asset_selection
    return run.job_name == f"{market.name}_{family}_job" or any(_is_of(key, market, family) for key in selected or ())


def _is_of(key: dg.AssetKey, market: Market, family: str) -> bool:
    return list(key.path[:2]) == [market.name, family]


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
