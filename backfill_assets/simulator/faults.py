"""Scripted faults: which requests they hit, and how they damage a list of bars."""

from __future__ import annotations

import random
from typing import Any

from backfill_assets.simulator.noise import seed
from backfill_assets.simulator.scenario import Fault

Bar = dict[str, Any]


class FaultRules:
    """The faults of a scenario with their counters. The first one that hits a request applies."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._seen = [0] * len(faults)
        self._done = [0] * len(faults)

    def choose(self, path: str, ticker: str | None) -> Fault | None:
        """Count a request in all matching faults and return the first one that hits it."""
        chosen: Fault | None = None
        for i, fault in enumerate(self._faults):
            if fault.path not in path or fault.ticker not in (None, ticker):
                continue
            self._seen[i] += 1
            if chosen is None and self._hits(i, fault):
                self._done[i] += 1
                chosen = fault
        return chosen

    def _hits(self, i: int, fault: Fault) -> bool:
        number = self._seen[i]
        if fault.times is not None and self._done[i] >= fault.times:
            return False
        if fault.nth is not None and number != fault.nth:
            return False
        if fault.every is not None and number % fault.every:
            return False
        chance = fault.probability
        return chance is None or seed("fault", fault.seed, number) / 2**64 < chance


def damage(bars: list[Bar], fault: Fault, span: tuple[int, int, int] | None) -> list[Bar]:
    """Return a damaged copy of a list of results.

    span   first millisecond of the range, first one after it, and the interval; None for responses without bars
    """
    if not bars:
        return bars
    if fault.kind == "duplicates":
        return [bar for i, bar in enumerate(bars) for _ in range(2 if i < fault.count else 1)]
    if fault.kind == "disorder":
        mixed = bars[: max(2, fault.count)]
        random.Random(seed("disorder", fault.seed)).shuffle(mixed)  # noqa: S311 - repeatable, not secret
        mixed = mixed if mixed != bars[: len(mixed)] else mixed[::-1]
        return bars[len(mixed) :] + mixed
    if fault.kind == "nulls":
        return [{**bar, "c": None, "v": None} if i < fault.count else bar for i, bar in enumerate(bars)]
    if fault.kind == "out_of_range" and span is not None:
        start, end, interval = span
        before = [{**bars[0], "t": start - k * interval} for k in range(fault.count, 0, -1)]
        after = [{**bars[-1], "t": end + k * interval} for k in range(fault.count)]
        return before + bars + after
    return bars
