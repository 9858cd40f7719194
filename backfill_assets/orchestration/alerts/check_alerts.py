"""The sensor that alerts of gaps, of failed checks, and of sensors and schedules that do not tick.

A check that fails leaves its run a success, and Dagster has no sensor for that: the event log is followed instead. What
counts is how each check stands now, so a lost cursor costs one look at all of them, and repeats nothing.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.deployment.private_api import (
    check_evaluations_after,
    newest_check_evaluations,
    newest_event,
    records_needed,
    ticking,
)
from backfill_assets.domain.alert_rules import (
    GAP_CHECK,
    WHOLE_MARKET_CHECKS,
    CheckSeen,
    Observation,
    check_incident,
    heartbeat_incident,
    together,
)
from backfill_assets.domain.alerts import Rows
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.alerts.delivery import EVERY_SECONDS, tell
from backfill_assets.orchestration.alerts.heartbeats import Watch, automation_names, heartbeats
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.alerts import gaps_seen

NAME = "check_alerts"
MOST_RESULTS = 1000
"""A tick follows so many results; where there are more, it looks at how all checks stand now."""

OVERLAP = 500
"""Events are numbered before they are written: one that was written late has a lower number than one that was seen."""


@dataclass(frozen=True, slots=True)
class CheckAlertsCursor:
    """The newest event that was there at the last look, and the watch over what ticks; None where nothing is known."""

    event: int | None = None
    watch: Watch | None = None


def check_alerts_sensor(universe: Universe) -> dg.SensorDefinition:
    """One sensor for all markets. On by default."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the channels of ALERT_URLS of gaps, of checks that fail, and of sensors and schedules that do not "
        "tick: when they begin, grow worse, last for a day, and end.",
    )
    @records_needed()
    def check_alerts(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor was evaluated without its repository")
        memory, settings = read(context.cursor), Settings.read()
        watch = Watch.after(memory.watch, clock.now())
        newest = newest_event(context.instance)
        checks = {k for k in repository.asset_graph.asset_check_keys if k.name != GAP_CHECK}
        names = automation_names(repository) - {NAME}  # whether it ticks itself, the other one looks
        watched = _incidents(universe, checks, names)
        seen: list[Observation] = [
            *checks_seen(context.instance, checks, memory.event, newest),
            *heartbeats(ticking(context.instance), repository, names, watch),
        ]
        with AlertStore(store.url()) as alerts:
            seen += gaps_seen(alerts, universe)
            said = tell(alerts, settings, clock, seen, lambda incident: _ours(incident) and incident not in watched)
        return dg.SensorResult(skip_reason=said, cursor=written(CheckAlertsCursor(newest, watch)))

    return check_alerts


def _incidents(universe: Universe, checks: Iterable[dg.AssetCheckKey], names: Iterable[str]) -> set[str]:
    """All that this sensor, and the other one about it, may have to tell of."""
    return {
        *(f"gap:{market.name}" for market in universe.markets),
        *(check_incident(_asset(key), key.name) for key in checks),
        *(heartbeat_incident(name) for name in (*names, NAME)),
    }


def _ours(incident: str) -> bool:
    return incident.startswith(("gap:", "check:", "heartbeat:"))


def checks_seen(
    instance: dg.DagsterInstance, checks: set[dg.AssetCheckKey], after: int | None, newest: int
) -> list[CheckSeen]:
    """How those checks stand that have a result after an event, or, where that is not known, all of them.

    `newest` is the newest event. Of a check that is about a market, the results of all its assets are put together.
    """
    results: list[dg.AssetCheckEvaluation] | None = None
    if after is not None and after <= newest:  # else the cursor is of other records
        results = check_evaluations_after(instance, max(after - OVERLAP, 0), MOST_RESULTS)
    if results is None or len(results) == MOST_RESULTS:
        results = newest_check_evaluations(instance, sorted(checks))
    found = {result.asset_check_key: result for result in results if result.asset_check_key in checks}
    touched = {check_incident(_asset(key), key.name) for key in found}
    siblings = [
        key
        for key in sorted(checks - set(found))
        if key.name in WHOLE_MARKET_CHECKS and check_incident(_asset(key), key.name) in touched
    ]
    found |= {result.asset_check_key: result for result in newest_check_evaluations(instance, siblings)}
    grouped: dict[str, list[CheckSeen]] = {}
    for result in found.values():
        seen = _seen(result)
        grouped.setdefault(seen.incident, []).append(seen)
    return [together(group) if group[0].check in WHOLE_MARKET_CHECKS else group[0] for group in grouped.values()]


def _seen(result: dg.AssetCheckEvaluation) -> CheckSeen:
    asset = _asset(result.asset_check_key)
    return CheckSeen(
        asset,
        result.check_name,
        result.passed,
        result.severity is dg.AssetCheckSeverity.ERROR,
        result.description or "",
        _table(result.metadata),
        _cure(result.metadata),
    )


def _asset(key: dg.AssetCheckKey) -> str:
    return "/".join(key.asset_key.path)


def _table(metadata: Mapping[str, dg.MetadataValue]) -> Rows:
    """The first table of a result, without the column of commands: the one that mends all is told by itself."""
    for value in metadata.values():
        if isinstance(value, dg.TableMetadataValue):
            names = [column.name for column in value.schema.columns if column.name != "repair"]
            return (tuple(names), *(tuple(str(r.data.get(name, "")) for name in names) for r in value.records))
    return ()


def _cure(metadata: Mapping[str, dg.MetadataValue]) -> str | None:
    value = metadata.get("repair")
    return value.text if isinstance(value, dg.TextMetadataValue) else None


def read(cursor: str | None) -> CheckAlertsCursor:
    """What a sensor remembers; an unreadable cursor is none."""
    try:
        stored = json.loads(cursor or "")
        watch = Watch(datetime.fromisoformat(stored["since"]), datetime.fromisoformat(stored["last"]))
        return CheckAlertsCursor(int(stored["event"]), watch)
    except (ValueError, KeyError, TypeError):
        return CheckAlertsCursor()


def written(memory: CheckAlertsCursor) -> str:
    """The cursor that keeps it."""
    watch = memory.watch
    told = {"since": watch.since.isoformat(), "last": watch.last.isoformat()} if watch else {}
    return json.dumps({"event": memory.event, **told})
