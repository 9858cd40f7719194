"""`backfill alerts`: open alerts, undelivered messages, and whether alerting works."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.notify import channels
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.cli.output import (
    COMPLETE,
    FAILED,
    counted,
    output_console,
    print_json,
    show_failed_checks,
)
from backfill_assets.domain.alert_messages import Message, format_duration, table
from backfill_assets.domain.alert_rules import (
    format_utc,
)
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.orchestration.alerts.sensors import NO_CHANNELS
from backfill_assets.orchestration.alerts.state import AlertState, alert_state, alerts_json
from backfill_assets.orchestration.launch import open_instance

_SHOWN_ROWS = 12


def alerts_command(*, as_json: bool) -> int:
    """Run `backfill alerts` and return the exit code."""
    settings = Settings.read()
    settings.require_project()
    now, url = datetime.now(UTC), database.ready(settings)
    with AlertStore(url, connections=1, read_only=True) as store, open_instance(settings) as instance:
        state = alert_state(settings, store, instance, now)
    if as_json:
        print_json(alerts_json(state, settings.dagster_ui_url))
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
