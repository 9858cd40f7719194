"""Bars as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Bars of one ticker in ascending order, columns of equal length n.

    day                      int64 (n,)    the market's trading day, days since 1970-01-01
    t                        int64 (n,)    start of the bar, milliseconds since 1970-01-01 UTC
    open, high, low, close   float64 (n,)  US dollars
    volume                   float64 (n,)  shares or coins
    vwap                     float64 (n,)  volume-weighted price; NaN if the response has no `vw`
    trades                   int64 (n,)    number of trades; -1 if the response has no `n`
    """

    day: Int
    t: Int
    open: Float
    high: Float
    low: Float
    close: Float
    volume: Float
    vwap: Float
    trades: Int

    def __len__(self) -> int:
        return len(self.t)

    def take(self, rows: NDArray[np.bool_] | Int | slice) -> Columns:
        """Select rows by a mask, an index array or a slice."""
        return Columns(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def empty(cls) -> Columns:
        """Return no bars."""
        i, f = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(i, i, f, f, f, f, f, f, i)

    @classmethod
    def concat(cls, *parts: Columns) -> Columns:
        """Concatenate the parts."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def gather(bars: Columns, bucket: Int) -> Columns:
    """Merge bars of equal numbers in `bucket` (n,), ascending. `t` becomes the number of the bucket."""
    if not len(bars):
        return bars
    first = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    last = np.r_[first[1:], len(bars)] - 1
    volume = np.add.reduceat(bars.volume, first)
    return Columns(
        day=bars.day[first],
        t=bucket[first],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=np.round(volume, 8),
        vwap=np.round(np.add.reduceat(bars.vwap * bars.volume, first) / volume, 6),
        trades=np.add.reduceat(bars.trades, first),
    )
