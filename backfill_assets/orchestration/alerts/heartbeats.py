"""Whether sensors and schedules tick.

While the daemon is down nothing is watched; after such a pause everything has its full time again before it is overdue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from backfill_assets.deployment.private_api import Ticking, last_due
from backfill_assets.domain.alert_rules import HeartbeatObservation

SILENT_AFTER = timedelta(minutes=5)
"""Ten ticks of a sensor that runs every half minute; a slower sensor has ten of its own ticks."""

_MISSED_TICKS = 10
LATE = timedelta(minutes=15)
"""A schedule's tick may wait for others that are due at the same time."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How long a sensor has watched without a pause: since `since`, last at `last` (UTC)."""

    since: datetime
    last: datetime

    @classmethod
    def after(cls, before: Watch | None, now: datetime) -> Watch:
        """Return the watch as of `now`; it starts again after a pause."""
        if before is None or now - before.last > SILENT_AFTER:
            return cls(now, now)
        return cls(before.since, now)


def observe_heartbeats(
    known: Mapping[str, Ticking], repository: dg.RepositoryDefinition, names: Iterable[str], watch: Watch
) -> list[HeartbeatObservation]:
    """Observe these sensors and schedules, except those that have not been due within the watch."""
    wanted = set(names)
    expected = {
        sensor.name: watch.last
        - max(SILENT_AFTER, _MISSED_TICKS * timedelta(seconds=sensor.minimum_interval_seconds or 0))
        for sensor in repository.sensor_defs
    }
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    found = []
    for name in sorted(wanted & {*expected, *schedules} & {*known}):  # the daemon has not seen the others yet
        due = last_due(schedules[name], watch.last - LATE) if name in schedules else expected[name]
        ticks = known[name]
        silent = ticks.last_good is None or ticks.last_good < due
        if not silent or ticks.switched_off or max(watch.since, ticks.started) <= due:
            found.append(
                HeartbeatObservation(
                    name, name in schedules, silent, ticks.switched_off, ticks.last_good, ticks.last_error
                )
            )
    return found


def automation_names(repository: dg.RepositoryDefinition) -> set[str]:
    """Return the sensors and schedules that are on by default."""
    sensors = {s.name for s in repository.sensor_defs if s.default_status is dg.DefaultSensorStatus.RUNNING}
    return sensors | {s.name for s in repository.schedule_defs if s.default_status is dg.DefaultScheduleStatus.RUNNING}
