"""The sensor that has completeness measured anew when runs of a market's bars have ended.

Dagster's own ways were weighed: an automation condition over 100,000 partitions costs seconds a tick, and a run status
sensor looks at one status and asks for a run after each of the 25 runs of a backfill. This asks once, when a market has
come to rest.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from backfill_assets.deployment.private_api import records_needed
from backfill_assets.deployment.tags import TRIGGER_TAG
from backfill_assets.domain.universe import Universe

EVERY_SECONDS = 30
MOST_RUNS = 500
"""So many ended runs a tick are looked at; where there are as many, every market is taken to have changed."""

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class CompletenessCursor:
    """Runs that ended by `seen` are accounted for, and these markets (by name) wait to be measured."""

    seen: datetime | None = None
    waiting: frozenset[str] = field(default_factory=frozenset)


def completeness_sensor(
    universe: Universe, jobs: Mapping[str, "dg.UnresolvedAssetJobDefinition"]
) -> dg.SensorDefinition:
    """One sensor for all markets; `jobs` measure them, by market name. On by default."""

    @dg.sensor(
        name="completeness_after_runs",
        jobs=list(jobs.values()),
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Measures a market's completeness when runs of its bars have ended and no other is under way. While a "
        "long backfill goes on, the hourly schedule does.",
    )
    @records_needed()
    def completeness_after_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        known = [market.name for market in universe.markets]
        memory = _ended_since(context.instance, _read(context.cursor), known)
        under_way = context.instance.get_runs(filters=dg.RunsFilter(statuses=_UNDER_WAY))
        busy = filled_by(under_way) | {name for name in known if any(r.job_name == jobs[name].name for r in under_way)}
        due = [name for name in known if name in memory.waiting and name not in busy]
        left = CompletenessCursor(memory.seen, memory.waiting - {*due})
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(job_name=jobs[name].name, tags={TRIGGER_TAG: "after runs of the bars"}) for name in due
            ],
            skip_reason=None if due else _reason(left.waiting),
            cursor=_written(left),
        )

    return completeness_after_runs


def filled_by(runs: Iterable[dg.DagsterRun]) -> set[str]:
    """The names of the markets whose bars the runs fill, or filled."""
    found = set()
    for run in runs:
        if run.job_name.endswith(_JOB) and not run.asset_selection:
            found.add(run.job_name.removesuffix(_JOB))
        found |= {key.path[0] for key in run.asset_selection or () if key.path[1:2] == ["ohlcv"]}
    return found


_JOB = "_ohlcv_job"


def _ended_since(instance: dg.DagsterInstance, memory: CompletenessCursor, known: Iterable[str]) -> CompletenessCursor:
    """With what ended since the last look. At the first look, and after very many runs, every market is to be measured."""
    most = MOST_RUNS if memory.seen else 1
    ended = dg.RunsFilter(statuses=_ENDED, updated_after=memory.seen)
    records = instance.get_run_records(ended, limit=most, order_by="update_timestamp")
    newest = records[0].update_timestamp if records else memory.seen or datetime.fromtimestamp(0, UTC)
    if memory.seen is None or len(records) == most:
        return CompletenessCursor(newest, frozenset(known))
    changed = filled_by(record.dagster_run for record in records) & {*known}
    return CompletenessCursor(newest, memory.waiting | changed)


def _reason(waiting: Iterable[str]) -> str:
    if names := sorted(waiting):
        return f"Runs of {', '.join(names)} are under way: measured when they have ended."
    return "No run of the bars has ended since the last look."


def _read(cursor: str | None) -> CompletenessCursor:
    """What the sensor remembers; an unreadable cursor is none."""
    try:
        stored = json.loads(cursor or "")
        return CompletenessCursor(datetime.fromisoformat(stored["seen"]), frozenset(map(str, stored["waiting"])))
    except (ValueError, KeyError, TypeError):
        return CompletenessCursor()


def _written(memory: CompletenessCursor) -> str:
    return json.dumps({"seen": memory.seen.isoformat() if memory.seen else None, "waiting": sorted(memory.waiting)})
