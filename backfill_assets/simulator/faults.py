"""Scripted faults: which requests they hit, and how they damage a list of bars."""

from __future__ import annotations

import random
from collections.abc import Callable
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


type Span = tuple[int, int, int]
"""The first millisecond of a range, the first one after it, and the interval."""


def damage(bars: list[Bar], fault: Fault, span: Span | None) -> list[Bar]:
    """Return a damaged copy of a list of results. `span` is None for responses without bars."""
    if bars and fault.kind in _ROWS:
        return [_ROWS[fault.kind](bar, i) for i, bar in enumerate(bars[: fault.count])] + bars[fault.count :]
    if bars and fault.kind in _LISTS:
        return _LISTS[fault.kind](bars, fault, span)
    return bars


def _disorder(bars: list[Bar], fault: Fault, _: Span | None) -> list[Bar]:
    mixed = bars[: max(2, fault.count)]
    random.Random(seed("disorder", fault.seed)).shuffle(mixed)  # noqa: S311 - repeatable, not secret
    mixed = mixed if mixed != bars[: len(mixed)] else mixed[::-1]
    return bars[len(mixed) :] + mixed


def _out_of_range(bars: list[Bar], fault: Fault, span: Span | None) -> list[Bar]:
    if span is None:
        return bars
    start, end, interval = span
    before = [{**bars[0], "t": start - k * interval} for k in range(fault.count, 0, -1)]
    after = [{**bars[-1], "t": end + k * interval} for k in range(fault.count)]
    return before + bars + after


def _twice_a_day(bars: list[Bar], fault: Fault, _: Span | None) -> list[Bar]:
    second = [{**bar, "t": bar["t"] + _HALF_PAST_NINE, "c": bar["o"]} for bar in bars[: fault.count]]
    return sorted(bars + second, key=lambda bar: int(bar["t"]))


def _junk(bars: list[Bar], fault: Fault, _: Span | None) -> list[Bar]:
    rows: list[Any] = [{**bars[0], "T": "ZZJUNK"} | dict.fromkeys("ohlc"), 5, None, {"T": 7}, "AAPL"]
    return bars + [rows[i % len(rows)] for i in range(fault.count)]


_HALF_PAST_NINE = 34_200_000  # ms
_IMPOSSIBLE: tuple[Bar, ...] = ({"l": 0}, {"l": -6, "c": -6}, {"h": 0.01}, {"v": -1}, {"n": -1})
_ROWS: dict[str, Callable[[Bar, int], Bar]] = {
    "nulls": lambda bar, _: {**bar, "c": None, "v": None},
    "impossible": lambda bar, i: {**bar, **_IMPOSSIBLE[i % len(_IMPOSSIBLE)]},
    "off_grid": lambda bar, _: {**bar, "t": bar["t"] + 30_000},
}
_LISTS: dict[str, Callable[[list[Bar], Fault, Span | None], list[Bar]]] = {
    "duplicates": lambda bars, fault, _: [b for i, b in enumerate(bars) for _ in range(2 if i < fault.count else 1)],
    "disorder": _disorder,
    "out_of_range": _out_of_range,
    "seconds": lambda bars, _fault, _span: [{**bar, "t": bar["t"] // 1000} for bar in bars],
    "twice_a_day": _twice_a_day,
    "junk": _junk,
}
