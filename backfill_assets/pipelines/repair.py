"""Decide which gaps are repaired now, and which wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, spans_by_symbol, unexplained
from backfill_assets.domain.retries import Retries

MOST_SYMBOLS = 25
"""The most symbols of one backfill: each becomes a run, and three run at a time."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The repairs launched for a symbol: the state of its gaps, how often that state was repaired, and when last (UTC).

    A run that fetches a session is counted in the session's record. A run that ends before that, by a refused key or a crash,
    is counted only here.
    """

    state: str
    times: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Choice:
    """What to repair now: by symbol the days from the first due session to the last; and why the rest waits."""

    repairs: Mapping[str, DayRange]
    tried: Mapping[str, Tried]
    """To be stored once the repairs are launched."""
    waiting: tuple[str, ...]
    """Sentences for a person to read."""


def choose(
    gaps: Sequence[Gap],
    now: datetime,
    busy: Mapping[str, Sequence[DayRange]],
    tried: Mapping[str, Tried],
    retries: Retries,
) -> Choice:
    """Choose the symbols to repair at `now` from all gaps of a market.

    `busy` are the days by symbol that unfinished runs and backfills cover: a symbol whose range overlaps them waits.
    """
    open_gaps = unexplained(gaps)
    due = spans_by_symbol(g for g in open_gaps if g.due(now))
    repairs: dict[str, DayRange] = {}
    memory: dict[str, Tried] = {}
    in_flight: list[str] = []
    paused: list[datetime] = []
    beyond: list[str] = []
    given_up: list[str] = [s for s in spans_by_symbol(open_gaps) if _exhausted(open_gaps, s)]
    for symbol, days in due.items():
        state = _state(open_gaps, symbol, days)
        before = tried.get(symbol)
        times = before.times if before and before.state == state else 0
        again_at = before.at + retries.pause(times) if before and times else now
        if times >= retries.attempts:
            given_up.append(symbol)
        elif any(days.intersect(other) for other in busy.get(symbol, ())):
            in_flight.append(symbol)
        elif again_at > now:
            paused.append(again_at)
        elif len(repairs) < MOST_SYMBOLS:
            repairs[symbol] = days
            memory[symbol] = Tried(state, times + 1, now)
            continue
        else:
            beyond.append(symbol)
        if before:
            memory[symbol] = before
    later = [g.next_attempt_at for g in open_gaps if g.next_attempt_at is not None and not g.due(now)]
    return Choice(repairs, memory, tuple(_waiting(in_flight, len(beyond), sorted([*paused, *later]), given_up)))


def _state(gaps: Sequence[Gap], symbol: str, days: DayRange) -> str:
    own = [g for g in gaps if g.symbol == symbol]
    return f"{days}: {sum(g.sessions for g in own)} sessions, {sum(g.attempts for g in own)} attempts"


def _exhausted(gaps: Sequence[Gap], symbol: str) -> bool:
    return all(g.next_attempt_at is None for g in gaps if g.symbol == symbol)


def _waiting(in_flight: Sequence[str], beyond: int, later: Sequence[datetime], given_up: Sequence[str]) -> list[str]:
    reasons = []
    if in_flight:
        reasons.append(f"{_some(in_flight)}: a run over these days is under way")
    if beyond:
        reasons.append(f"{beyond} more due symbol{'' if beyond == 1 else 's'} wait for the next tick")
    if later:
        reasons.append(f"next attempt at {later[0].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    if given_up:
        reasons.append(f"{_some(given_up)}: all attempts are used up; run `backfill repair` to retry")
    return reasons


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
