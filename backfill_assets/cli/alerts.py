"""`backfill alerts`: open alerts, undelivered messages, and whether alerting works."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.notify import channel_names, channels
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore, Delivery
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    FAILED,
    check_json,
    counted,
    iso,
    output_console,
    print_json,
    show_failed_checks,
)
from backfill_assets.deployment.private_api import daemon_seen, ticking
from backfill_assets.domain.alert_history import Incident
from backfill_assets.domain.alert_messages import Message, format_duration, table, ui_path
from backfill_assets.domain.alert_rules import (
    COVERAGE_CHECKS,
    KEY_INCIDENT,
    CheckResult,
    failed_checks,
    format_utc,
)
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.orchestration.alerts.heartbeats import SILENT_AFTER
from backfill_assets.orchestration.alerts.sensors import CHECK_ALERTS, NO_CHANNELS, RUN_ALERTS
from backfill_assets.orchestration.launch import open_instance

_SHOWN_ROWS = 12


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything that the command shows.

    checks           the failed checks, whether or not the daemon has opened their alerts; those of what is missing are left
                     out while the key is refused, from which they follow
    daemon, sensors  when the daemon and the two alert sensors last worked (UTC); None: never
    """

    now: datetime
    incidents: Sequence[Incident]
    waiting: Sequence[Delivery]
    checks: Sequence[CheckResult]
    daemon: datetime | None
    sensors: dict[str, datetime | None]
    configured: Sequence[str]

    @property
    def complaint(self) -> str | None:
        """What keeps alerts from being found and sent, or None."""
        if self._old(self.daemon):
            return (
                f"The Dagster daemon is down{self._last(self.daemon)}: nothing is watched, repaired or notified. "
                "`backfill up` starts it."
            )
        for name, last in self.sensors.items():
            if self._old(last):
                return f"The sensor {name} does not tick{self._last(last)}: see Automation in the Dagster UI (Dagit)."
        return None

    def _old(self, last: datetime | None) -> bool:
        return last is None or self.now - last > SILENT_AFTER

    def _last(self, last: datetime | None) -> str:
        return f" (last seen {format_duration(self.now - last)} ago)" if last else " (never seen)"

    @property
    def exit_code(self) -> int:
        """0 if all is well; 3 if an alert is open, a check failed, a message is not delivered, or alerting does not work."""
        failed = any(d.error for d in self.waiting)
        return DAYS_MISSING if self.incidents or self.checks or failed or self.complaint else COMPLETE


def alerts_command(*, as_json: bool) -> int:
    """Run `backfill alerts` and return the exit code."""
    settings = Settings.read()
    settings.require_project()
    now = datetime.now(UTC)
    markets = settings.universe(now.date()).markets
    url = database.ready(settings)
    with AlertStore(url, connections=1, read_only=True) as store, open_instance(settings) as instance:
        known, incidents = ticking(instance), store.open()
        refused = any(incident.finding.incident == KEY_INCIDENT for incident in incidents)
        results = [r for r in store.check_results() if not (refused and r.check in COVERAGE_CHECKS)]
        state = AlertState(
            now,
            incidents,
            store.waiting(),
            [check for market in markets for check in failed_checks(results, market)],
            daemon_seen(instance),
            {name: known[name].last_good if name in known else None for name in (CHECK_ALERTS, RUN_ALERTS)},
            channel_names(settings.alert_urls),
        )
    if as_json:
        print_json(_json(state, settings.dagster_ui_url))
    else:
        _show(state)
    return state.exit_code


def alerts_test_command() -> int:
    """Run `backfill alerts test`; return 0 if every channel accepted the message, otherwise 1."""
    settings = Settings.read()
    if not settings.alert_urls:
        raise SettingMistake(f"{NO_CHANNELS} Set it to addresses like mailto://user:password@example.org.")
    sent = Message(
        "TEST of the alerts of backfill_assets",
        f"Sent at {format_utc(datetime.now(UTC))} by `backfill alerts test`. Nothing is wrong.\n"
        f"Dagster UI: {settings.dagster_ui_url}",
        None,
    )
    code = COMPLETE
    for channel in channels(settings.alert_urls):
        refusal = channel.send(sent)
        sys.stdout.write(f"{channel.name}: {'accepted.' if refusal is None else f'not accepted: {refusal}'}\n")
        sys.stdout.flush()
        code = code if refusal is None else FAILED
    return code


def _show(state: AlertState) -> None:
    if not state.incidents:
        sys.stdout.write("No alert is open.\n")
    for incident in state.incidents:
        finding, lasted = incident.finding, format_duration(state.now - incident.opened_at)
        notified = f"notified at {format_utc(incident.notified.at)}" if incident.notified else "not notified"
        lines = [
            f"{finding.severity.name}  {finding.incident}",
            f"  {finding.sentence}",
            f"  Since {format_utc(incident.opened_at)}, {lasted}; {notified}.",
            *([f"  Repair: {finding.repair}"] if finding.repair else []),
            *(f"    {line}" for line in (table(finding.rows, _SHOWN_ROWS) if finding.rows else [])),
        ]
        sys.stdout.write("\n".join(lines) + "\n\n")
    places = [incident.finding.place for incident in state.incidents]
    alerted = {(place.check, place.asset.partition("/")[0]) for place in places if place.asset}
    unseen = [c for c in state.checks if (c.check, c.asset.partition("/")[0]) not in alerted]
    show_failed_checks(output_console(), unseen)
    if not state.configured:
        sys.stdout.write(f"{NO_CHANNELS}\n")
    if state.waiting:
        _show_waiting(state)
    if complaint := state.complaint:
        sys.stdout.write(f"{complaint}\n")


def _show_waiting(state: AlertState) -> None:
    sys.stdout.write(f"{counted(len(state.waiting), 'message')} not delivered:\n")
    for d in state.waiting:
        due = "now" if d.next_attempt_at <= state.now else format_utc(d.next_attempt_at)
        error = d.error if d.channel in state.configured else "no longer in ALERT_URLS"
        sys.stdout.write(
            f"{d.channel}: {d.message.title}\n"
            f"  Since {format_utc(d.created_at)}, {counted(d.attempts, 'attempt')}; next attempt: {due}.\n"
            + (f"  {error}\n" if error else "")
        )


def _json(state: AlertState, ui_url: str) -> dict[str, object]:
    """Return the state for a program; instants are ISO 8601 in UTC."""
    return {
        "exit_code": state.exit_code,
        "as_of": iso(state.now),
        "alerts": [
            {
                "incident": i.finding.incident,
                "severity": i.finding.severity.word,
                "sentence": i.finding.sentence,
                "opened_at": iso(i.opened_at),
                "told_at": iso(i.notified.at) if i.notified else None,
                "repair": i.finding.repair,
                "dagit": f"{ui_url}{ui_path(i.finding.place)}" if ui_path(i.finding.place) else None,
                "details": [dict(zip(i.finding.rows[0], row, strict=True)) for row in i.finding.rows[1:]],
            }
            for i in state.incidents
        ],
        "failed_checks": [check_json(check) for check in state.checks],
        "channels": list(state.configured),
        "waiting": [
            {
                "channel": d.channel,
                "message": d.message.title,
                "created_at": iso(d.created_at),
                "attempts": d.attempts,
                "next_attempt_at": iso(d.next_attempt_at),
                "error": d.error or None,
            }
            for d in state.waiting
        ],
        "daemon_seen": iso(state.daemon),
        "last_looked": {name: iso(last) for name, last in state.sensors.items()},
        "complaint": state.complaint,
    }
