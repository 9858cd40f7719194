"""The sensor that alerts of failed runs, and of the other alerting sensor where that does not tick.

It looks at the records of all runs, however they were started, and not at each failure by itself, as Dagster's own sensor of
failures does: that one begins with the newest failure when its cursor is lost, and knows nothing of what was mended since.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import json
from datetime import datetime

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.private_api import records_needed, ticking
from backfill_assets.deployment.runs import close_records
from backfill_assets.domain.alert_rules import Observation
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.alerts import check_alerts
from backfill_assets.orchestration.alerts.delivery import EVERY_SECONDS, tell
from backfill_assets.orchestration.alerts.ended_runs import newest_change, runs_seen, watched_works
from backfill_assets.orchestration.alerts.heartbeats import Watch, heartbeats
from backfill_assets.orchestration.resources import Clock, MarketStore

NAME = "run_alerts"


def run_alerts_sensor(universe: Universe) -> dg.SensorDefinition:
    """One sensor for all runs. On by default."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the channels of ALERT_URLS of runs that crashed, of features that were not computed, and of a "
        "market whose backfill failed on three days in a row: when that begins, grows worse, lasts for a day, and ends.",
    )
    @records_needed()
    def run_alerts(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor was evaluated without its repository")
        changed, watch = _read(context.cursor)
        settings, watch = Settings.read(), Watch.after(watch, clock.now())
        newest = newest_change(context.instance)
        seen: list[Observation] = [*heartbeats(ticking(context.instance), repository, [check_alerts.NAME], watch)]
        if newest != changed:
            seen += runs_seen(context.instance, universe, clock.now())
        watched = {f"run:{work}" for work in watched_works(repository)}
        watched |= {f"backfill:{market.name}" for market in universe.markets}
        with AlertStore(store.url()) as alerts:
            close_records(context.instance, RunStore.beside(alerts))
            said = tell(alerts, settings, clock, seen, lambda incident: _ours(incident) and incident not in watched)
        return dg.SensorResult(skip_reason=said, cursor=_written(newest, watch))

    return run_alerts


def _ours(incident: str) -> bool:
    return incident.startswith(("run:", "backfill:"))


def _read(cursor: str | None) -> tuple[datetime | None, Watch | None]:
    """What the sensor remembers; an unreadable cursor is none."""
    try:
        stored = json.loads(cursor or "")
        changed, since, last = (
            stored[name] and datetime.fromisoformat(stored[name]) for name in ("changed", "since", "last")
        )
        return changed, Watch(since, last)
    except (ValueError, KeyError, TypeError):
        return None, None


def _written(changed: datetime | None, watch: Watch) -> str:
    told = {"changed": changed, "since": watch.since, "last": watch.last}
    return json.dumps({name: at and at.isoformat() for name, at in told.items()})
