"""The bar frame: columns of equal length, one row a bar."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]

NO_TRADES = -1
"""Stands for "the vendor gave no trade count" in the integer column; NULL in the table."""


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
        """The rows that a mask, an index array or a slice selects, in its order."""
        return Bars(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def empty(cls) -> Bars:
        """No bars at all."""
        i, f = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(i, f, f, f, f, f, f, i)

    @classmethod
    def concat(cls, *parts: Bars) -> Bars:
        """All rows of the parts, in the order given."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def in_order(bars: Bars) -> Bars:
    """Sorted by timestamp, each timestamp once; of doubled bars the one that came last stands."""
    t = bars.timestamp
    if len(t) < 2 or bool(np.all(t[1:] > t[:-1])):
        return bars
    order = np.argsort(t, kind="stable")
    ordered = t[order]
    last_of_its_kind = np.append(ordered[1:] != ordered[:-1], True)
    return bars.take(order[last_of_its_kind])


def clip(bars: Bars, start_ms: int, end_ms: int) -> Bars:
    """Only bars that start in [start_ms, end_ms), milliseconds since the epoch, UTC."""
    inside = (bars.timestamp >= start_ms) & (bars.timestamp < end_ms)
    return bars if bool(inside.all()) else bars.take(inside)
