"""Alerting: from observations to open incidents and messages, and from messages to channels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.store.alerts import AlertStore, Delivery
from backfill_assets.adapters.store.base import reconnecting
from backfill_assets.domain.alert_history import Incident, NotificationPolicy, changes
from backfill_assets.domain.alert_messages import Message, message
from backfill_assets.domain.alert_rules import Observation
from backfill_assets.domain.alerts import Finding

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
"""Between attempts at a message: each pause is twice the one before, up to the longest."""

SEND_FOR = timedelta(seconds=20)
"""No message is started later than this: Dagster ends a sensor's tick after 60 s."""

LEASE = timedelta(minutes=2)
"""A claimed message that was neither delivered nor failed is claimed again after this; sending takes less."""


class Channel(Protocol):
    """Where messages are sent."""

    @property
    def name(self) -> str:
        """The name of the channel, without secrets."""

    def send(self, message: Message) -> str | None:
        """Send a message; return None if it was accepted, otherwise the reason."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """How alerts are sent.

    channels  names; if empty, nothing is sent
    repeat    an incident that lasts is notified again after this time
    ui_url    the address of the Dagster UI, without a slash at its end
    secrets   texts that no message and no table may contain
    """

    channels: tuple[str, ...]
    repeat: timedelta
    ui_url: str
    secrets: tuple[str, ...] = field(default=(), repr=False)


@reconnecting
def settle(
    store: AlertStore,
    observations: Collection[Observation],
    settings: AlertSettings,
    now: datetime,
    removed: Callable[[str], bool] = lambda _: False,
) -> None:
    """Compare what was observed with the open incidents, and write the changes and their messages.

    `removed` returns whether what an incident is about is no longer watched.
    """
    found = {o.incident: _without_secrets(o.finding(), settings.secrets) for o in observations}
    policy = NotificationPolicy(settings.repeat, has_channels=bool(settings.channels))
    with store.locked() as alerts:
        for change in changes(alerts.incidents, found, policy, now, removed):
            notice = message(change, now, settings.ui_url) if change.notice else None
            alerts.write(change, notice, settings.channels, now)


def _without_secrets(finding: Finding | None, secrets: Sequence[str]) -> Finding | None:
    """Replace secrets in a finding: an error's sentence may quote anything."""
    if finding is None:
        return None

    def hidden(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    rows = tuple(tuple(map(hidden, row)) for row in finding.rows)
    return replace(finding, sentence=hidden(finding.sentence), rows=rows)


def deliver(store: AlertStore, channels: Sequence[Channel], clock: Callable[[], datetime]) -> int:
    """Send the messages that are due, to all channels concurrently, and return how many were accepted.

    `clock` returns the present, aware, UTC. A channel that does not accept a message is not tried again before its next pause
    is over. Returns within SEND_FOR plus the time of one message. A message is sent again if its delivery could
    not be recorded.
    """
    if not channels:
        return 0
    end = clock() + SEND_FOR
    store.hand_over([channel.name for channel in channels], clock())
    with ThreadPoolExecutor(len(channels), thread_name_prefix="alerts") as threads:
        return sum(threads.map(lambda channel: _serve(store, channel, clock, end), channels))


def _serve(store: AlertStore, channel: Channel, clock: Callable[[], datetime], end: datetime) -> int:
    sent = 0
    while (now := clock()) < end and (due := store.claim(channel.name, now, now + LEASE)):
        error = channel.send(due.message)
        if error is not None:
            store.failed(due, error, clock() + pause(due.attempts))
            break
        store.delivered(due, clock())
        sent += 1
    return sent


def pause(attempts: int) -> timedelta:
    """Return the pause after a number of attempts."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 30)), LONGEST_PAUSE)


def summary(incidents: Sequence[Incident], waiting: Sequence[Delivery], sent: int) -> str:
    """Summarize open alerts and messages for a sensor's tick."""
    parts = [f"{_counted(len(incidents), 'alert')} open." if incidents else "No alert is open."]
    if sent:
        parts.append(f"{_counted(sent, 'message')} sent.")
    for channel in dict.fromkeys(d.channel for d in waiting):
        rest = [d for d in waiting if d.channel == channel]
        error = next((d.error for d in rest if d.error), "")
        again = min(d.next_attempt_at for d in rest)
        why = f": {error.removesuffix('.')}; again at {again:%H:%M:%S} UTC" if error else ""
        parts.append(f"{_counted(len(rest), 'message')} for {channel} waiting{why}.")
    return " ".join(parts)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
