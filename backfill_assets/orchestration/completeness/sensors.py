"""The sensor that measures completeness again after runs of a market's bars.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import json
from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from backfill_assets.deployment.private_api import records_needed
from backfill_assets.deployment.runs import TRIGGER_TAG
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.in_flight import targets, unfinished_runs
from backfill_assets.orchestration.keys import OHLCV

EVERY_SECONDS = 30
MOST_RUNS = 500
"""Ended runs that a tick examines; if there are as many, it assumes that every market has changed."""

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def completeness_sensor(universe: Universe, jobs: Sequence["dg.UnresolvedAssetJobDefinition"]) -> dg.SensorDefinition:
    """Define one sensor for all markets, on by default. `jobs` measure their completeness."""

    @dg.sensor(
        name="completeness_after_runs",
        jobs=jobs,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Measures a market's completeness when runs of its bars have ended and no other is in progress. During a "
        "long backfill the hourly schedule does.",
    )
    @records_needed()
    def completeness_after_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen, waiting = _read(context.cursor)
        most = MOST_RUNS if seen else 1
        ended = context.instance.get_run_records(
            dg.RunsFilter(statuses=_ENDED, updated_after=seen), limit=most, order_by="update_timestamp"
        )
        unfinished = unfinished_runs(context.instance)
        due: list[str] = []
        left: list[str] = []
        for market in universe.markets:
            changed = (
                seen is None
                or len(ended) == most
                or market.name in waiting
                or any(targets(record.dagster_run, market, OHLCV) for record in ended)
            )
            if changed:
                busy = any(targets(run, market, family) for run in unfinished for family in (OHLCV, "completeness"))
                (left if busy else due).append(market.name)
        if ended:
            seen = ended[0].update_timestamp
        reason = "No run of the bars has ended since the last tick."
        if left:
            reason = f"Runs of {', '.join(left)} are in progress: measured when they have ended."
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(job_name=f"{name}_completeness_job", tags={TRIGGER_TAG: "after runs of the bars"})
                for name in due
            ],
            skip_reason=None if due else reason,
            cursor=json.dumps({"seen": seen.isoformat() if seen else _NEVER, "waiting": left}),
        )

    return completeness_after_runs


_NEVER = "1970-01-01T00:00:00+00:00"


def _read(cursor: str | None) -> tuple[datetime | None, list[str]]:
    """Return when the newest examined run ended, and the markets that wait; an unreadable cursor is ignored."""
    try:
        stored = json.loads(cursor or "")
        return datetime.fromisoformat(stored["seen"]), list(map(str, stored["waiting"]))
    except (ValueError, KeyError, TypeError):
        return None, []
