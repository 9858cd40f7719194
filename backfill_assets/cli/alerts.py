"""`backfill alerts`: what is wrong now, what has not reached anybody, and whether anybody looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from backfill_assets.adapters import database
from backfill_assets.adapters.notify import channel_names, channels
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore, Delivery
from backfill_assets.cli.output import output_console
from backfill_assets.cli.result import COMPLETE, DAYS_MISSING, FAILED, counted
from backfill_assets.deployment.private_api import daemon_seen, ticking
from backfill_assets.domain.alert_history import Incident
from backfill_assets.domain.alert_messages import Message, lasting, page, table
from backfill_assets.domain.alert_rules import spelled
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.orchestration.alerts import check_alerts, run_alerts
from backfill_assets.orchestration.alerts.delivery import UNHEARD
from backfill_assets.orchestration.alerts.heartbeats import SILENT_AFTER
from backfill_assets.orchestration.launch import open_instance

_SHOWN_ROWS = 12


@dataclass(frozen=True, slots=True)
class Watchers:
    """When the daemon, and the two sensors that alert, were last seen to work (UTC); None: never."""

    daemon: datetime | None
    sensors: dict[str, datetime | None]

    def complaint(self, now: datetime) -> str | None:
        """What keeps alerts from being found and sent, or None."""
        if _old(self.daemon, now):
            return (
                f"Dagster's daemon does not run{_last(self.daemon, now)}: nothing is looked at, repaired or told. "
                "`backfill up` starts it."
            )
        for name, last in self.sensors.items():
            if _old(last, now):
                return f"The sensor {name} does not tick{_last(last, now)}: see it in Dagit, under Automation."
        return None


def _old(last: datetime | None, now: datetime) -> bool:
    return last is None or now - last > SILENT_AFTER


def _last(last: datetime | None, now: datetime) -> str:
    return f" (last seen {lasting(now - last)} ago)" if last else " (it was never seen)"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the command shows."""

    now: datetime
    incidents: Sequence[Incident]
    waiting: Sequence[Delivery]
    watchers: Watchers
    configured: Sequence[str]

    @property
    def exit_code(self) -> int:
        """0 all is well and watched, 3 an alert is open, a message could not be delivered, or nobody watches."""
        failed = any(d.error for d in self.waiting)
        return DAYS_MISSING if self.incidents or failed or self.watchers.complaint(self.now) else COMPLETE


def alerts_command(*, as_json: bool) -> int:
    """Carry out `backfill alerts`; the exit code."""
    settings = Settings.read()
    settings.require_project()
    with AlertStore(database.ready(settings), connections=1) as store, open_instance(settings) as instance:
        known = ticking(instance)
        last = {name: known[name].last_good if name in known else None for name in _WATCHERS}
        standing = Standing(
            datetime.now(UTC),
            store.open(),
            store.waiting(),
            Watchers(daemon_seen(instance), last),
            channel_names(settings.alert_urls),
        )
    if as_json:
        sys.stdout.write(json.dumps(_json(standing, settings.dagster_ui_url), indent=2) + "\n")
    else:
        _show(standing)
    return standing.exit_code


_WATCHERS = (check_alerts.NAME, run_alerts.NAME)


def alerts_test_command() -> int:
    """Carry out `backfill alerts test`: 0 where every channel accepted the message, 1 where one did not."""
    settings = Settings.read()
    if not settings.alert_urls:
        raise SettingMistake(f"{UNHEARD} Set it to addresses like mailto://user:password@example.org.")
    sent = Message(
        "TEST of the alerts of backfill_assets",
        f"Sent at {spelled(datetime.now(UTC))} by `backfill alerts test`. Nothing is wrong.\n"
        f"Dagit:    {settings.dagster_ui_url}",
        None,
    )
    code = COMPLETE
    for channel in channels(settings.alert_urls):
        refusal = channel.send(sent)
        sys.stdout.write(f"{channel.name}: {'accepted.' if refusal is None else f'not accepted: {refusal}'}\n")
        sys.stdout.flush()
        code = code if refusal is None else FAILED
    return code


def _show(standing: Standing) -> None:
    if not standing.incidents:
        sys.stdout.write("No alert is open.\n")
    for incident in standing.incidents:
        finding = incident.finding
        lines = [
            f"{finding.severity.name}  {finding.incident}",
            f"  {finding.sentence}",
            f"  Since {spelled(incident.opened_at)}, {lasting(standing.now - incident.opened_at)}; {_told(incident)}.",
            *([f"  Repair: {finding.cure}"] if finding.cure else []),
            *(f"    {line}" for line in (table(finding.rows, _SHOWN_ROWS) if finding.rows else [])),
        ]
        sys.stdout.write("\n".join(lines) + "\n\n")
    if not standing.configured:
        sys.stdout.write(f"{UNHEARD}\n")
    if standing.waiting:
        _show_waiting(standing)
    if complaint := standing.watchers.complaint(standing.now):
        sys.stdout.write(f"{complaint}\n")


def _told(incident: Incident) -> str:
    return f"told at {spelled(incident.told.at)}" if incident.told else "told to nobody"


def _show_waiting(standing: Standing) -> None:
    sys.stdout.write(f"{counted(len(standing.waiting), 'message')} to be delivered:\n")
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("channel", "message", "since", "attempts", "next attempt", "last error"):
        shown.add_column(name, justify="right" if name == "attempts" else "left")
    for delivery in standing.waiting:
        gone = delivery.channel not in standing.configured
        shown.add_row(
            delivery.channel,
            delivery.message.title,
            spelled(delivery.created_at),
            str(delivery.attempts),
            spelled(delivery.next_attempt_at),
            "not in ALERT_URLS any more" if gone else delivery.error,
        )
    output_console().print(shown)


def _json(standing: Standing, dagit: str) -> dict[str, object]:
    """For a program: instants are ISO 8601 in UTC."""
    return {
        "exit_code": standing.exit_code,
        "as_of": _iso(standing.now),
        "alerts": [
            {
                "incident": i.finding.incident,
                "severity": i.finding.severity.word,
                "sentence": i.finding.sentence,
                "opened_at": _iso(i.opened_at),
                "told_at": _iso(i.told.at) if i.told else None,
                "repair": i.finding.cure,
                "dagit": f"{dagit}{page(i.finding.place)}" if page(i.finding.place) else None,
                "details": [dict(zip(i.finding.rows[0], row, strict=True)) for row in i.finding.rows[1:]],
            }
            for i in standing.incidents
        ],
        "channels": list(standing.configured),
        "waiting": [
            {
                "channel": d.channel,
                "message": d.message.title,
                "created_at": _iso(d.created_at),
                "attempts": d.attempts,
                "next_attempt_at": _iso(d.next_attempt_at),
                "error": d.error or None,
            }
            for d in standing.waiting
        ],
        "daemon_seen": _iso(standing.watchers.daemon),
        "last_looked": {name: _iso(last) for name, last in standing.watchers.sensors.items()},
        "complaint": standing.watchers.complaint(standing.now),
    }


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat() if at else None
