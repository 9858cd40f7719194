"""What an alert says: subject and text of a message, plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from backfill_assets.domain.alert_history import News, Turn
from backfill_assets.domain.alert_rules import spelled
from backfill_assets.domain.alerts import Finding, Place, Rows, Severity

MOST_ROWS = 25
"""A message is read on a telephone; Dagit and the commands show all of them."""

CODE_LOCATION = "backfill_assets"
"""The name in workspace.yaml, which is part of the addresses of sensors and schedules."""


@dataclass(frozen=True, slots=True)
class Message:
    """Subject and text. `severity` is None for good news."""

    title: str
    body: str
    severity: Severity | None


def message(turn: Turn, now: datetime, dagit: str) -> Message:
    """The message of a turn that is told. `dagit` is the address of Dagit's first page."""
    if turn.finding is not None:
        since = turn.incident.opened_at if turn.incident else now
        return _trouble(turn.finding, turn.news, since, now, dagit)
    if turn.incident is None:
        raise ValueError("nothing stood open and nothing was found: there is nothing to tell")
    was = turn.incident.finding
    lines = [
        "This is not watched any more:" if turn.gone else "This is over:",
        was.sentence,
        "",
        f"It lasted {lasting(now - turn.incident.opened_at)}: {spelled(turn.incident.opened_at)} to {spelled(now)}.",
        *_link(was.place, dagit),
    ]
    return Message(f"{'CLOSED' if turn.gone else 'RECOVERED'}: {was.incident}", "\n".join(lines), None)


_PREFIX: Mapping[News | None, str] = {News.WORSENED: "now ", News.REMINDED: "still "}


def _trouble(finding: Finding, news: News | None, since: datetime, now: datetime, dagit: str) -> Message:
    prefix = _PREFIX.get(news, "")
    lines = [
        finding.sentence,
        "",
        f"Severity: {finding.severity.word}",
        f"Since:    {spelled(since)}" + (f" ({lasting(now - since)})" if now > since else ""),
        *([f"Repair:   {finding.cure}"] if finding.cure else []),
        *_link(finding.place, dagit),
        *(["", *table(finding.rows)] if finding.rows else []),
    ]
    return Message(f"{prefix}{finding.severity.name}: {finding.incident}", "\n".join(lines), finding.severity)


def _link(place: Place, dagit: str) -> list[str]:
    path = page(place)
    return [f"Dagit:    {dagit}{path}"] if path else []


def page(place: Place) -> str:
    """The path of a place in Dagit; empty for none."""
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
    """Lines of columns that stand under each other, the first line their names; rows past `most` are counted only."""
    shown = rows[: most + 1]
    columns = [_aligned(column) for column in zip(*shown, strict=True)]
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    left = len(rows) - len(shown)
    return [*lines, f"… and {left} more."] if left else lines


def _aligned(column: Sequence[str]) -> list[str]:
    """Cells of one width: numbers to the right, with their heading."""
    width = max(map(len, column))
    numbers = all(cell.replace(",", "").isdecimal() for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def lasting(time: timedelta) -> str:
    """A length of time for a person: 5 minutes, 3 hours, 2 days 4 hours."""
    minutes = int(time.total_seconds()) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return _counted([(days, "day"), (hours, "hour")])
    return _counted([(hours, "hour"), (minutes % 60, "minute")]) or "less than a minute"


def _counted(parts: Sequence[tuple[int, str]]) -> str:
    return " ".join(f"{number} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number)
