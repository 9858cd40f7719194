"""Days that the vendor fails to serve, and when it serves them after all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from backfill_assets.simulator.columns import Columns
from backfill_assets.simulator.scenario import Hole
from backfill_assets.simulator.sessions import MINUTE_MS, day_number, market_of, midnight

Base = Literal["minute", "day"]


class Holes:
    """The holes of a scenario. `now` returns an aware datetime. Safe to call from several threads."""

    def __init__(self, holes: tuple[Hole, ...], now: Callable[[], datetime]) -> None:
        self._holes = holes
        self._now = now
        self._touched = [0] * len(holes)
        self._lock = threading.Lock()

    def touch(self, ticker: str, base: Base, first: int, last: int) -> tuple[Hole, ...]:
        """Count one bar request for the days `first` to `last` (day numbers) and say which holes it meets."""
        with self._lock:
            for i, hole in enumerate(self._holes):
                if _meant(hole, ticker, base) and day_number(hole.first) <= last and day_number(hole.last) >= first:
                    self._touched[i] += 1
            return tuple(h for i, h in enumerate(self._holes) if _meant(h, ticker, base) and not self._healed(i, h, 0))

    def seen(self, ticker: str, base: Base) -> tuple[Hole, ...]:
        """The holes that the next request would meet, without counting one."""
        with self._lock:
            return tuple(h for i, h in enumerate(self._holes) if _meant(h, ticker, base) and not self._healed(i, h, 1))

    def _healed(self, i: int, hole: Hole, ahead: int) -> bool:
        if hole.heal_after_requests is not None and self._touched[i] + ahead > hole.heal_after_requests:
            return True
        at = hole.heal_at
        return at is not None and self._now() >= (at if at.tzinfo else at.replace(tzinfo=UTC))


def cut(bars: Columns, holes: tuple[Hole, ...], base: Base) -> Columns:
    """The bars of one ticker that no hole hides."""
    for hole in holes:
        hidden = (bars.day >= day_number(hole.first)) & (bars.day <= day_number(hole.last))
        if base == "minute" and hidden.any():
            market = market_of(hole.ticker)
            start = {d: midnight(market, d) for d in np.unique(bars.day[hidden]).tolist()}
            clock = (bars.t - np.array([start.get(d, 0) for d in bars.day.tolist()], dtype=np.int64)) // MINUTE_MS
            hidden &= (clock >= _clock(hole.start)) & (clock < _clock(hole.end))
        bars = bars.take(~hidden)
    return bars


def _meant(hole: Hole, ticker: str, base: Base) -> bool:
    return hole.ticker == ticker and hole.base in (base, "all")


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
