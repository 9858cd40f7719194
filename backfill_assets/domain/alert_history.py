"""What is news: from what stands open and what was found, whom to tell what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from backfill_assets.domain.alerts import Finding, Severity


class News(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    WORSENED = "worsened"
    REMINDED = "reminded"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Told:
    """How bad it was said to be when it was last told, and when (UTC)."""

    severity: Severity
    at: datetime


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that was found wrong, at `opened_at` (UTC), and is not known to have been mended.

    told  None: there was nobody to tell
    """

    id: int
    finding: Finding
    opened_at: datetime
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What to write of an incident, and what of it is told.

    incident  as it stood, None where it is new
    finding   as it is now, None where it has recovered
    news      None where nobody is told
    gone      it has not recovered: what it was about is not watched any more
    """

    incident: Incident | None
    finding: Finding | None
    news: News | None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Telling:
    """How often to tell: again after `repeat`; not at all where nobody listens."""

    repeat: timedelta
    listeners: bool


def turns(
    known: Sequence[Incident],
    found: Mapping[str, Finding | None],
    telling: Telling,
    now: datetime,
    gone: Callable[[str], bool] = lambda _: False,
) -> list[Turn]:
    """What follows from what was looked at: by incident what was found, or None where all is well.

    Incidents that were not looked at stay as they are, unless what they are about is `gone`. One of which nobody could be
    told is told of, as new, once there are listeners; its recovery is not, if there are none before. What grows better is
    not told, and neither is what then grows as bad as it was told to be.
    """
    open_now = {incident.finding.incident: incident for incident in known}
    out = []
    for name, finding in found.items():
        incident = open_now.get(name)
        if incident or finding:
            out.append(Turn(incident, finding, _news(incident, finding, telling, now)))
    for name, incident in open_now.items():
        if name not in found and gone(name):
            out.append(Turn(incident, None, _news(incident, None, telling, now), gone=True))
    return out


def _news(incident: Incident | None, finding: Finding | None, telling: Telling, now: datetime) -> News | None:
    if not telling.listeners:
        return None
    if finding is None:
        return News.RECOVERED if incident and incident.told else None
    if incident is None or incident.told is None:
        return News.OPENED
    if finding.severity > incident.told.severity:
        return News.WORSENED
    if finding.reminds and now - incident.told.at >= telling.repeat:
        return News.REMINDED
    return None
