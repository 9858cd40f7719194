"""Which incidents open, change and end, and which of these changes are notified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from backfill_assets.domain.alerts import Finding, Severity


class Notice(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    WORSENED = "worsened"
    REMINDED = "reminded"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Notification:
    """The last notification of an incident: its severity, and when it was made (UTC)."""

    severity: Severity
    at: datetime


@dataclass(frozen=True, slots=True)
class Incident:
    """A finding that was first made at `opened_at` (UTC) and has not recovered.

    notified  None if no channel was configured
    """

    id: int
    finding: Finding
    opened_at: datetime
    notified: Notification | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an incident.

    incident  as stored; None if it is new
    finding   as found now; None if it has recovered
    notice    None if no message is sent
    removed   it did not recover: what it is about is no longer watched
    """

    incident: Incident | None
    finding: Finding | None
    notice: Notice | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NotificationPolicy:
    """When to notify: again after `repeat`, and only if there are channels."""

    repeat: timedelta
    has_channels: bool


def changes(
    known: Sequence[Incident],
    found: Mapping[str, Finding | None],
    policy: NotificationPolicy,
    now: datetime,
    removed: Callable[[str], bool] = lambda _: False,
) -> list[Change]:
    """Compare the open incidents with what was found: by incident its finding, or None if all is well.

    Incidents that were not examined stay as they are, unless `removed` says that they are no longer watched. An incident that
    could not be notified is notified as new once there is a channel; if it recovers before that, its recovery is not.
    An improvement is not notified, nor a later return to the severity that was notified.
    """
    open_now = {incident.finding.incident: incident for incident in known}
    found_changes = [
        Change(open_now.get(name), finding, _notice(open_now.get(name), finding, policy, now))
        for name, finding in found.items()
        if name in open_now or finding
    ]
    return found_changes + [
        Change(incident, None, _notice(incident, None, policy, now), removed=True)
        for name, incident in open_now.items()
        if name not in found and removed(name)
    ]


def _notice(
    incident: Incident | None, finding: Finding | None, policy: NotificationPolicy, now: datetime
) -> Notice | None:
    if not policy.has_channels:
        return None
    if finding is None:
        return Notice.RECOVERED if incident and incident.notified else None
    if incident is None or incident.notified is None:
        return Notice.OPENED
    if finding.severity > incident.notified.severity:
        return Notice.WORSENED
    if finding.reminds and now - incident.notified.at >= policy.repeat:
        return Notice.REMINDED
    return None
