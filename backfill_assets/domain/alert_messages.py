"""Subject and text of alert messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from backfill_assets.domain.alert_history import Change, Notice
from backfill_assets.domain.alert_rules import format_utc
from backfill_assets.domain.alerts import Finding, Place, Rows, Severity

MOST_ROWS = 25
"""Messages are read on phones; the Dagster UI and the commands show all rows."""

CODE_LOCATION = "backfill_assets"
"""The name in workspace.yaml; the URLs of sensors and schedules contain it."""


@dataclass(frozen=True, slots=True)
class Message:
    """Subject and text. `severity` is None for a recovery."""

    title: str
    body: str
    severity: Severity | None


def message(change: Change, now: datetime, ui_url: str) -> Message:
    """Return the message about a change. `ui_url` is the address of the Dagster UI."""
    if change.finding is not None:
        since = change.incident.opened_at if change.incident else now
        return _problem(change.finding, change.notice, since, now, ui_url)
    if change.incident is None:
        raise ValueError("a change needs an incident or a finding")
    was, opened_at = change.incident.finding, change.incident.opened_at
    lines = [
        "No longer watched:" if change.removed else "Resolved:",
        was.sentence,
        "",
        f"It lasted {format_duration(now - opened_at)}: {format_utc(opened_at)} to {format_utc(now)}.",
        *_link(was.place, ui_url),
    ]
    return Message(f"{'CLOSED' if change.removed else 'RECOVERED'}: {was.incident}", "\n".join(lines), None)


_PREFIX: Mapping[Notice | None, str] = {Notice.WORSENED: "now ", Notice.REMINDED: "still "}


def _problem(finding: Finding, notice: Notice | None, since: datetime, now: datetime, ui_url: str) -> Message:
    lines = [
        finding.sentence,
        "",
        f"Severity:   {finding.severity.word}",
        f"Since:      {format_utc(since)}" + (f" ({format_duration(now - since)})" if now > since else ""),
        *([f"Repair:     {finding.repair}"] if finding.repair else []),
        *_link(finding.place, ui_url),
        *(["", *table(finding.rows)] if finding.rows else []),
    ]
    title = f"{_PREFIX.get(notice, '')}{finding.severity.name}: {finding.incident}"
    return Message(title, "\n".join(lines), finding.severity)


def _link(place: Place, ui_url: str) -> list[str]:
    path = ui_path(place)
    return [f"Dagster UI: {ui_url}{path}"] if path else []


def ui_path(place: Place) -> str:
    """Return the path of a place in the Dagster UI, or an empty string."""
    if place.asset:
        path = "/".join(quote(part, safe="") for part in place.asset.split("/"))
        query = urlencode({"view": "checks", "checkDetail": place.check}) if place.check else ""
        return f"/assets/{path}" + (f"?{query}" if query else "")
    if place.run:
        return f"/runs/{place.run}"
    if place.sensor:
        return f"/locations/{CODE_LOCATION}/sensors/{place.sensor}"
    if place.schedule:
        return f"/locations/{CODE_LOCATION}/schedules/{place.schedule}"
    return ""


def table(rows: Rows, most: int = MOST_ROWS) -> list[str]:
    """Format rows as lines of aligned columns, the header first; rows after `most` are only counted."""
    shown = rows[: most + 1]
    columns = [_aligned(column) for column in zip(*shown, strict=True)]
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    left = len(rows) - len(shown)
    return [*lines, f"… and {left} more."] if left else lines


def _aligned(column: Sequence[str]) -> list[str]:
    """Pad the cells to one width; columns of numbers are right-aligned."""
    width = max(map(len, column))
    numbers = all(cell.replace(",", "").isdecimal() for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def format_duration(duration: timedelta) -> str:
    """Format a duration in its two largest units: 5 minutes, 3 hours, 2 days 4 hours."""
    minutes = int(duration.total_seconds()) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    parts = [(days, "day"), (hours, "hour")] if days else [(hours, "hour"), (minutes % 60, "minute")]
    return (
        " ".join(f"{number} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number)
        or "less than a minute"
    )
