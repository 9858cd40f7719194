"""Alerts: what stands open, and the outbox of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.alert_history import Incident, Told, Turn
from backfill_assets.domain.alert_messages import Message
from backfill_assets.domain.alerts import Finding, Place, Severity
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason

SQL = statements("backfill_assets.adapters.store", "alerts.sql")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is to reach a channel. Instants are UTC.

    attempts  how often it was sent, or is being sent
    error     why the last attempt failed; empty where none did
    """

    id: int
    channel: str
    message: Message
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    error: str


class AlertStore(Store):
    """The tables `alerts` and `alert_deliveries`, and the open gaps that alerts are about."""

    def settle(
        self,
        judge: Callable[[Sequence[Incident]], Sequence[tuple[Turn, Message | None]]],
        channels: Sequence[str],
        now: datetime,
    ) -> None:
        """Show `judge` what stands open, and write the turns that it answers with, each with its message to all `channels`.

        One transaction; whoever else settles waits for its end. A message without channels is not noted as told.
        """

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["lock_alerts"])
            for turn, message in judge(_open(connection)):
                number = _write(connection, turn, now, told=bool(message and channels))
                if message:
                    connection.execute(SQL["put_out"], _put_out(number, turn, message, channels, now))

        self._transaction(work)

    def open(self) -> list[Incident]:
        """The incidents that stand open, the oldest first."""
        return self._transaction(_open)

    def waiting(self) -> list[Delivery]:
        """The messages that have not reached their channel, by channel, the oldest first."""
        return self._transaction(lambda c: [_delivery(row) for row in c.execute(SQL["waiting"]).fetchall()])

    def claim(self, channel: str, now: datetime, until: datetime) -> Delivery | None:
        """The next message that is due for a channel, this caller's until `until`; None where there is none.

        None also where somebody else is sending to the channel. Whoever ends without a word gives the message back then.
        """
        values = {"channel": channel, "now": now, "until": until}

        def work(connection: psycopg.Connection[Row]) -> Delivery | None:
            connection.execute(SQL["lock_channel"], values)
            row = connection.execute(SQL["claim"], values).fetchone()
            return _delivery(row) if row else None

        return self._transaction(work)

    def delivered(self, delivery: Delivery, now: datetime) -> None:
        """Note that a channel took a message; what else waits for the channel is due at once."""
        values = {"id": delivery.id, "channel": delivery.channel, "now": now}

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["delivered"], values)
            connection.execute(SQL["hurry"], values)

        self._transaction(work)

    def failed(self, delivery: Delivery, error: str, next_attempt_at: datetime) -> None:
        """Note that a channel did not take a message, and when to try again."""
        values = {"id": delivery.id, "error": error, "next": next_attempt_at}
        self._transaction(lambda c: c.execute(SQL["failed"], values))

    def hand_over(self, channels: Sequence[str], now: datetime) -> None:
        """Give the first of the channels what waits for others, unless one of them was given it too."""
        values = {"channels": list(channels), "heir": channels[0], "now": now}

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["lock_alerts"])
            connection.execute(SQL["drop_told_elsewhere"], values)
            connection.execute(SQL["hand_over"], values)

        self._transaction(work)

    def open_gaps(self, symbols: Iterable[str]) -> list[Gap]:
        """The open gaps of symbols, as whoever looked last left them in the table of gaps."""
        values = {"symbols": list(symbols)}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["open_gaps"], values).fetchall())
        return [
            Gap(symbol, timeframe, DayRange(start, end), sessions, Reason(reason), explained, attempts, due)
            for symbol, timeframe, start, end, sessions, reason, explained, attempts, due in rows
        ]


def _open(connection: psycopg.Connection[Row]) -> list[Incident]:
    rows: list[Any] = connection.execute(SQL["open_alerts"]).fetchall()
    return [
        Incident(
            number,
            Finding(incident, _severity(severity), sentence, _rows(details), cure, Place(**place), reminds),
            opened_at,
            Told(_severity(told), told_at) if told else None,
        )
        for number, incident, severity, sentence, details, cure, place, reminds, opened_at, told, told_at in rows
    ]


def _write(connection: psycopg.Connection[Row], turn: Turn, now: datetime, *, told: bool) -> int:
    """Write a turn; the number of its alert."""
    if turn.finding is None:
        if turn.incident is None:
            raise ValueError("a turn without an incident opens one")
        connection.execute(SQL["close_alert"], {"id": turn.incident.id, "now": now})
        return turn.incident.id
    values = _columns(turn.finding) | {"now": now, "told": told}
    if turn.incident:
        if told or turn.finding != turn.incident.finding:
            connection.execute(SQL["change_alert"], values | {"id": turn.incident.id})
        return turn.incident.id
    row: Any = connection.execute(SQL["open_alert"], values).fetchone()
    return int(row[0])


def _columns(finding: Finding) -> dict[str, Any]:
    return {
        "incident": finding.incident,
        "severity": finding.severity.word,
        "sentence": finding.sentence,
        "details": Jsonb([list(row) for row in finding.rows]),
        "cure": finding.cure,
        "place": Jsonb({name: value for name, value in asdict(finding.place).items() if value is not None}),
        "reminds": finding.reminds,
    }


def _put_out(number: int, turn: Turn, message: Message, channels: Sequence[str], now: datetime) -> Mapping[str, Any]:
    return {
        "alert": number,
        "news": turn.news.value if turn.news else None,
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
