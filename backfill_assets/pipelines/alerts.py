"""Telling: from observations to open incidents and messages, and from messages to channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from backfill_assets.adapters.store.alerts import AlertStore, Delivery
from backfill_assets.domain.alert_history import Incident, Telling, Turn, turns
from backfill_assets.domain.alert_messages import Message, message
from backfill_assets.domain.alert_rules import GapsSeen, Observation
from backfill_assets.domain.alerts import Finding
from backfill_assets.domain.universe import Universe

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
"""Between attempts at a message: each pause is twice the one before, up to the longest."""

SERVING = timedelta(seconds=20)
"""No message is begun so long after the first: Dagster ends a sensor's tick after 60 s."""

LEASE = timedelta(minutes=2)
"""After that a message that somebody began to send is somebody else's: longer than sending may take."""


class Channel(Protocol):
    """What this needs of a channel."""

    @property
    def name(self) -> str:
        """What it is called."""

    def send(self, message: Message) -> str | None:
        """Send; None where it was accepted, else a sentence that says why not."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """How alerts are told.

    channels  names; empty: nobody is told
    repeat    after this time an incident that lasts is told again
    dagit     the address of Dagit, without a slash at its end
    secrets   words that no message and no table may hold
    """

    channels: tuple[str, ...]
    repeat: timedelta
    dagit: str
    secrets: tuple[str, ...] = field(default=(), repr=False)


def settle(
    store: AlertStore,
    seen: Iterable[Observation],
    terms: AlertSettings,
    now: datetime,
    gone: Callable[[str], bool] = lambda _: False,
) -> None:
    """Compare what was seen with what stands open, and write what changed with the messages that tell it.

    `gone` says of an incident's name whether what it is about is not watched any more.
    """
    found = {o.incident: _without(o.finding(), terms.secrets) for o in seen}
    telling = Telling(terms.repeat, listeners=bool(terms.channels))

    def judge(known: Sequence[Incident]) -> list[tuple[Turn, Message | None]]:
        return [
            (turn, message(turn, now, terms.dagit) if turn.news else None)
            for turn in turns(known, found, telling, now, gone)
        ]

    store.settle(judge, terms.channels, now)


def _without(finding: Finding | None, secrets: Sequence[str]) -> Finding | None:
    """A finding whose words hold no secret: an error's sentence may quote anything."""
    if finding is None:
        return None
    rows = tuple(tuple(_hidden(cell, secrets) for cell in row) for row in finding.rows)
    return replace(finding, sentence=_hidden(finding.sentence, secrets), rows=rows)


def _hidden(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def gaps_seen(store: AlertStore, universe: Universe) -> list[GapsSeen]:
    """The open gaps of every market, by the table of gaps."""
    gaps = store.open_gaps(s.name for m in universe.markets for s in m.symbols)
    seen = []
    for market in universe.markets:
        series = {(s.name, t.name) for s in market.symbols for t in market.timeframes}
        seen.append(GapsSeen(market.name, tuple(g for g in gaps if (g.symbol, g.timeframe) in series)))
    return seen


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending a message; `error` is None where it was accepted."""

    channel: str
    title: str
    error: str | None


def deliver(store: AlertStore, channels: Sequence[Channel], clock: Callable[[], datetime]) -> list[Attempt]:
    """Send what is due, to all channels at once; `clock` tells the present, aware, UTC.

    A channel that does not accept a message is left alone until its next pause is over. Returns within SERVING and the time
    that one message may take. A message whose acceptance cannot be noted, because process or database end at that moment, is
    sent again.
    """
    if not channels:
        return []
    end = clock() + SERVING
    store.hand_over([channel.name for channel in channels], clock())
    with ThreadPoolExecutor(len(channels), thread_name_prefix="alerts") as threads:
        return [a for served in threads.map(lambda c: _serve(store, c, clock, end), channels) for a in served]


def _serve(store: AlertStore, channel: Channel, clock: Callable[[], datetime], end: datetime) -> list[Attempt]:
    attempts: list[Attempt] = []
    while (now := clock()) < end and (due := store.claim(channel.name, now, now + LEASE)):
        error = channel.send(due.message)
        attempts.append(Attempt(channel.name, due.message.title, error))
        if error is not None:
            store.failed(due, error, clock() + pause(due.attempts))
            break
        store.delivered(due, clock())
    return attempts


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 30)), LONGEST_PAUSE)


def told(incidents: Sequence[Incident], waiting: Sequence[Delivery], attempts: Sequence[Attempt]) -> str:
    """How things stand after a look, in a sentence or two for a sensor's tick."""
    said = [f"{_counted(len(incidents), 'alert')} open." if incidents else "No alert is open."]
    accepted = sum(a.error is None for a in attempts)
    if accepted:
        said.append(f"{_counted(accepted, 'message')} sent.")
    for channel in dict.fromkeys(d.channel for d in waiting):
        rest = [d for d in waiting if d.channel == channel]
        error = next((d.error for d in rest if d.error), "")
        again = min(d.next_attempt_at for d in rest)
        why = f": {error.removesuffix('.')}; again at {again:%H:%M:%S} UTC" if error else ""
        said.append(f"{_counted(len(rest), 'message')} for {channel} waiting{why}.")
    return " ".join(said)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
