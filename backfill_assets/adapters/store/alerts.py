"""Alerts: check results, open incidents, and the outbox of messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.alert_history import Change, Incident, Notification
from backfill_assets.domain.alert_messages import Message
from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.domain.alerts import Finding, Place, Severity
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason

SQL = statements("backfill_assets.adapters.store", "alerts.sql")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message to be delivered to a channel. Instants are UTC.

    attempts  attempts so far, including one in progress
    error     why the last attempt failed; empty if there was none
    """

    id: int
    channel: str
    message: Message
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class OpenAlerts:
    """The open incidents, the oldest first, in a transaction that has the table of alerts locked."""

    incidents: Sequence[Incident]
    _connection: psycopg.Connection[Row]

    def write(self, change: Change, message: Message | None, channels: Sequence[str], now: datetime) -> None:
        """Write a change, and its message to all channels. Without channels no notification is recorded."""
        number = _write(self._connection, change, now, notified=bool(message and channels))
        if message:
            self._connection.execute(SQL["put_out"], _put_out(number, change, message, channels, now))


class AlertStore(Store):
    """The tables `check_results`, `alerts` and `alert_deliveries`, and the open gaps."""

    def write_check_results(self, results: Iterable[CheckResult], at: datetime) -> None:
        """Replace the results of these checks, evaluated at `at` (aware), unless newer ones are stored."""
        values = [
            {
                "asset": result.asset,
                "check": result.check,
                "passed": result.passed,
                "severity": "error" if result.error else "warning",
                "sentence": result.sentence,
                "details": Jsonb(result.rows),
                "cure": result.repair,
                "at": at,
            }
            for result in sorted(results, key=lambda r: (r.asset, r.check))  # one order of locks for all writers
        ]

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.cursor().executemany(SQL["write_check_result"], values)

        self._transaction(work)

    def check_results(self) -> list[CheckResult]:
        """Return the newest result of every check that was ever evaluated, by asset."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["check_results"]).fetchall())
        return [
            CheckResult(asset, check, passed, severity == "error", sentence, _rows(details), cure, at.astimezone(UTC))
            for asset, check, passed, severity, sentence, details, cure, at in rows
        ]

    @contextmanager
    def locked(self) -> Iterator[OpenAlerts]:
        """Lock the alerts and read the open incidents, in one transaction that ends with the context.

        A second caller waits. Use it in a function decorated with `reconnecting`.
        """
        with self._connection() as connection:
            connection.execute(SQL["lock_alerts"])
            yield OpenAlerts(_open(connection), connection)

    def open(self) -> list[Incident]:
        """Return the open incidents, the oldest first."""
        return self._transaction(_open)

    def waiting(self) -> list[Delivery]:
        """Return the undelivered messages, by channel, the oldest first."""
        return self._transaction(lambda c: [_delivery(row) for row in c.execute(SQL["waiting"]).fetchall()])

    def claim(self, channel: str, now: datetime, until: datetime) -> Delivery | None:
        """Claim the next message that is due for a channel, until `until`, after which others may claim it again.

        None if there is none, or if another caller is sending to the channel.
        """
        values = {"channel": channel, "now": now, "until": until}

        def work(connection: psycopg.Connection[Row]) -> Delivery | None:
            connection.execute(SQL["lock_channel"], values)
            row = connection.execute(SQL["claim"], values).fetchone()
            return _delivery(row) if row else None

        return self._transaction(work)

    def delivered(self, delivery: Delivery, now: datetime) -> None:
        """Record that a message was delivered, and make the other messages of the channel due now."""
        values = {"id": delivery.id, "channel": delivery.channel, "now": now}

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["delivered"], values)
            connection.execute(SQL["hurry"], values)

        self._transaction(work)

    def failed(self, delivery: Delivery, error: str, next_attempt_at: datetime) -> None:
        """Record that a message was not delivered, and when to retry."""
        values = {"id": delivery.id, "error": error, "next": next_attempt_at}
        self._transaction(lambda c: c.execute(SQL["failed"], values))

    def hand_over(self, channels: Sequence[str], now: datetime) -> None:
        """Move messages for channels that no longer exist to the first channel, unless a channel has them already."""
        values = {"channels": list(channels), "heir": channels[0], "now": now}

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["lock_alerts"])
            connection.execute(SQL["drop_told_elsewhere"], values)
            connection.execute(SQL["hand_over"], values)

        self._transaction(work)

    def open_gaps(self, symbols: Iterable[str]) -> list[Gap]:
        """Return the open gaps of symbols from the table of gaps."""
        values = {"symbols": list(symbols)}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["open_gaps"], values).fetchall())
        return [
            Gap(symbol, timeframe, DayRange(start, end), sessions, Reason(reason), *rest)
            for symbol, timeframe, start, end, sessions, reason, *rest in rows
        ]


def _open(connection: psycopg.Connection[Row]) -> list[Incident]:
    rows: list[Any] = connection.execute(SQL["open_alerts"]).fetchall()
    return [
        Incident(
            number,
            Finding(incident, _severity(severity), sentence, _rows(details), cure, Place(**place), reminds),
            opened_at,
            Notification(_severity(told), told_at) if told else None,
        )
        for number, incident, severity, sentence, details, cure, place, reminds, opened_at, told, told_at in rows
    ]


def _write(connection: psycopg.Connection[Row], change: Change, now: datetime, *, notified: bool) -> int:
    """Write a change and return the id of its alert."""
    if change.finding is None:
        if change.incident is None:
            raise ValueError("a change needs an incident or a finding")
        connection.execute(SQL["close_alert"], {"id": change.incident.id, "now": now})
        return change.incident.id
    values = _columns(change.finding) | {"now": now, "told": notified}
    if change.incident:
        if notified or change.finding != change.incident.finding:
            connection.execute(SQL["change_alert"], values | {"id": change.incident.id})
        return change.incident.id
    row: Any = connection.execute(SQL["open_alert"], values).fetchone()
    return int(row[0])


def _columns(finding: Finding) -> dict[str, Any]:
    return {
        "incident": finding.incident,
        "severity": finding.severity.word,
        "sentence": finding.sentence,
        "details": Jsonb(finding.rows),
        "cure": finding.repair,
        "place": Jsonb({name: value for name, value in asdict(finding.place).items() if value is not None}),
        "reminds": finding.reminds,
    }


def _put_out(
    number: int, change: Change, message: Message, channels: Sequence[str], now: datetime
) -> Mapping[str, Any]:
    return {
        "alert": number,
        "news": change.notice.value if change.notice else None,
        "severity": message.severity.word if message.severity else None,
        "title": message.title,
        "body": message.body,
        "channels": list(channels),
        "now": now,
    }


def _delivery(row: Any) -> Delivery:
    number, channel, severity, title, body, created_at, attempts, next_attempt_at, error = row
    message = Message(title, body, _severity(severity) if severity else None)
    return Delivery(number, channel, message, created_at, attempts, next_attempt_at, error or "")


def _severity(word: str) -> Severity:
    return Severity[word.upper()]


def _rows(details: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in details)
