"""The open alerts, undelivered messages, and whether alerting works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from backfill_assets.adapters.notify import channel_names
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore, Delivery
from backfill_assets.adapters.store.base import Store
from backfill_assets.deployment.private_api import daemon_seen, ticking
from backfill_assets.domain.alert_history import Incident
from backfill_assets.domain.alert_messages import format_duration, ui_path
from backfill_assets.domain.alert_rules import COVERAGE_CHECKS, KEY_INCIDENT, CheckResult, failed_checks
from backfill_assets.orchestration.alerts.heartbeats import SILENT_AFTER
from backfill_assets.orchestration.alerts.sensors import CHECK_ALERTS, RUN_ALERTS
from backfill_assets.presentation.documents import check_json, iso


@dataclass(frozen=True, slots=True)
class AlertState:
    """Open alerts, and what keeps them from being found and sent.

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
        return 3 if self.incidents or self.checks or failed or self.complaint else 0


def alert_state(settings: Settings, shared: Store, instance: dg.DagsterInstance, now: datetime) -> AlertState:
    """Read the state of alerting."""
    store, markets = AlertStore.beside(shared), settings.universe(now.date()).markets
    known, incidents = ticking(instance), store.open()
    refused = any(incident.finding.incident == KEY_INCIDENT for incident in incidents)
    results = [r for r in store.check_results() if not (refused and r.check in COVERAGE_CHECKS)]
    return AlertState(
        now,
        incidents,
        store.waiting(),
        [check for market in markets for check in failed_checks(results, market)],
        daemon_seen(instance),
        {name: known[name].last_good if name in known else None for name in (CHECK_ALERTS, RUN_ALERTS)},
        channel_names(settings.alert_urls),
    )


def alerts_json(state: AlertState, ui_url: str) -> dict[str, object]:
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
