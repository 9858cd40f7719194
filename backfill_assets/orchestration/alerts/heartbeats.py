"""Whether sensors and schedules tick.

What stops with the daemon cannot be seen from within it: while the daemon is down nothing is looked at. After such a pause
everything is given the time that it is given anyway before it is called silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from backfill_assets.deployment.private_api import Ticking, last_due
from backfill_assets.domain.alert_rules import HeartbeatSeen

SILENT_AFTER = timedelta(minutes=5)
"""A sensor that looks every half minute has then missed ten looks; one that looks more seldom is given ten of its own."""

_MISSED_LOOKS = 10
LATE = timedelta(minutes=15)
"""A schedule's tick waits for others that are evaluated at the same time."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How long the one who watches has done so: without a pause since `since`, last at `last` (UTC)."""

    since: datetime
    last: datetime

    @classmethod
    def after(cls, before: Watch | None, now: datetime) -> Watch:
        """The watch as of `now`; it begins anew after a pause."""
        if before is None or now - before.last > SILENT_AFTER:
            return cls(now, now)
        return cls(before.since, now)


def heartbeats(
    known: Mapping[str, Ticking], repository: dg.RepositoryDefinition, names: Iterable[str], watch: Watch
) -> list[HeartbeatSeen]:
    """What is to be said of these sensors and schedules, by how they tick; nothing of one whose time is not yet over."""
    wanted = set(names)
    seen: list[HeartbeatSeen | None] = [
        _sensor(sensor, known, watch) for sensor in repository.sensor_defs if sensor.name in wanted
    ]
    seen += [_schedule(schedule, known, watch) for schedule in repository.schedule_defs if schedule.name in wanted]
    return [heartbeat for heartbeat in seen if heartbeat is not None]


def automation_names(repository: dg.RepositoryDefinition) -> set[str]:
    """The sensors and schedules that are on unless somebody switches them off."""
    sensors = {s.name for s in repository.sensor_defs if s.default_status is dg.DefaultSensorStatus.RUNNING}
    return sensors | {s.name for s in repository.schedule_defs if s.default_status is dg.DefaultScheduleStatus.RUNNING}


def _sensor(sensor: dg.SensorDefinition, known: Mapping[str, Ticking], watch: Watch) -> HeartbeatSeen | None:
    every = timedelta(seconds=sensor.minimum_interval_seconds or 0)
    expected = watch.last - max(SILENT_AFTER, _MISSED_LOOKS * every)
    return _seen(known.get(sensor.name), watch, expected, schedule=False)


def _schedule(schedule: dg.ScheduleDefinition, known: Mapping[str, Ticking], watch: Watch) -> HeartbeatSeen | None:
    return _seen(known.get(schedule.name), watch, last_due(schedule, watch.last - LATE), schedule=True)


def _seen(found: Ticking | None, watch: Watch, expected: datetime, *, schedule: bool) -> HeartbeatSeen | None:
    """By whether there was a good tick at `expected` or later. None where it could not be: it, or the watch, began after."""
    if found is None:
        return None  # the daemon has not seen it yet
    silent = found.last_good is None or found.last_good < expected
    if silent and not found.switched_off and max(watch.since, found.started) > expected:
        return None
    return HeartbeatSeen(found.name, schedule, silent, found.switched_off, found.last_good, found.last_error)
