"""Bars as NumPy columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]

NO_TRADES = -1
"""In the integer column: the vendor gave no trade count. NULL in the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Bars of one series as NumPy columns of equal length n.

    timestamp   int64 (n,)    start of the bar, milliseconds since 1970-01-01 UTC
    open … vwap float64 (n,)  raw prices in the quote currency, volume in shares or coins; vwap is NaN where not given
    trades      int64 (n,)    number of trades, NO_TRADES where not given
    """

    timestamp: Int
    open: Float
    high: Float
    low: Float
    close: Float
    volume: Float
    vwap: Float
    trades: Int

    def __len__(self) -> int:
        return len(self.timestamp)

    def take(self, rows: NDArray[np.bool_] | Int | slice) -> Bars:
        """Select rows by a mask, an index array or a slice."""
        return Bars(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def empty(cls) -> Bars:
        """Return no bars."""
        i, f = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(i, f, f, f, f, f, f, i)

    @classmethod
    def concat(cls, *parts: Bars) -> Bars:
        """Concatenate the parts."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


@dataclass(frozen=True, slots=True)
class BadBar:
    """A row of an answer that cannot be a bar: its start, milliseconds since the epoch UTC, and the reason.

    If the start cannot be read or believed, `timestamp` is that of the row before, and `between` are the first and the last
    time that it may be.
    """

    timestamp: int
    reason: str
    between: tuple[int, int] | None = None


def impossible(bars: Bars) -> dict[int, str]:
    """Return the rows that cannot be true, with the reasons. `vwap` may be outside of low to high."""
    fine = (bars.low > 0) & (bars.low <= bars.open) & (bars.open <= bars.high)
    fine &= (bars.low <= bars.close) & (bars.close <= bars.high) & (bars.high < np.inf)
    fine &= (bars.volume >= 0) & (bars.volume < np.inf) & (bars.trades >= NO_TRADES)
    if bool(fine.all()):
        return {}
    return {row: _reason(bars, row) for row in np.flatnonzero(~fine).tolist()}


def _reason(bars: Bars, row: int) -> str:
    o, h, low, c = (float(column[row]) for column in (bars.open, bars.high, bars.low, bars.close))
    if not all(map(math.isfinite, (o, h, low, c))):
        return "a price is not finite"
    if min(o, h, low, c) <= 0:
        return "a price is zero or negative"
    if h < low:
        return "high is below low"
    if min(o, c) < low or max(o, c) > h:
        return "open or close is not between low and high"
    if not 0 <= bars.volume[row] < math.inf:
        return "volume is negative or not finite"
    return "the number of trades is negative"


def in_order(bars: Bars) -> Bars:
    """Sort by timestamp and keep the last bar of each timestamp."""
    t = bars.timestamp
    if len(t) < 2 or bool(np.all(t[1:] > t[:-1])):
        return bars
    order = np.argsort(t, kind="stable")
    ordered = t[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    return bars.take(order[is_last])


def clip(bars: Bars, start_ms: int, end_ms: int) -> Bars:
    """Keep bars that start in [start_ms, end_ms), milliseconds since the epoch UTC."""
    inside = (bars.timestamp >= start_ms) & (bars.timestamp < end_ms)
    return bars if bool(inside.all()) else bars.take(inside)
