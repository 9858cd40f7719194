"""Reductions over the last n values of a column, each from its own window alone.

pandas carries its rolling sums and variances from row to row, so that a value depends on every row before it, and a still
stretch after a lively one does not come out as 0. Here a value is made from its n values, in the same order wherever the
column begins: n passes over plain arrays, in memory of the order of the column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from backfill_assets.domain.bars import Float

NOISE = 1e-12
"""What is smaller than this part of the price (or volume) is rounding, not a move. float64 keeps 1e-16 of it, and putting a
price into another day's units costs a few of these; ticks of traded things are 1e-10 of their price at the finest."""

_BLOCK = 1 << 13
"""Rows a pass works on at a time, so that what it adds up stays in the processor's cache."""


def total(x: Float, n: int) -> Float:
    """Sum of the last n values, NaN in the first n - 1 rows: (len(x),)."""
    return _folded(x, n, np.add)


def mean(x: Float, n: int) -> Float:
    """Mean of the last n values, NaN in the first n - 1 rows: (len(x),)."""
    return total(x, n) / n


def highest(x: Float, n: int) -> Float:
    """Greatest of the last n values, NaN in the first n - 1 rows: (len(x),)."""
    return _folded(x, n, np.maximum)


def lowest(x: Float, n: int) -> Float:
    """Least of the last n values, NaN in the first n - 1 rows: (len(x),)."""
    return _folded(x, n, np.minimum)


def deviation(x: Float, centre: Float, n: int, ddof: int) -> Float:
    """Standard deviation of the last n values about `centre`, their mean; the divisor is n - ddof: (len(x),)."""
    return np.sqrt(_spread(x, centre, n, np.square) / (n - ddof))


def mean_absolute_deviation(x: Float, centre: Float, n: int) -> Float:
    """Mean distance of the last n values from `centre`, their mean: (len(x),)."""
    return _spread(x, centre, n, np.absolute) / n


def change(x: Float) -> Float:
    """Each value less the one before, NaN in row 0: (len(x),)."""
    return np.diff(x, prepend=np.nan)


def _blocks(rows: int, n: int) -> Iterator[tuple[int, int]]:
    """The complete windows' first rows, in stretches [a, b)."""
    windows = rows - n + 1
    for a in range(0, windows, _BLOCK):
        yield a, min(a + _BLOCK, windows)


def _folded(x: Float, n: int, fold: np.ufunc) -> Float:
    out = np.full(len(x), np.nan)
    for a, b in _blocks(len(x), n):
        into = out[a + n - 1 : b + n - 1]
        into[:] = x[a:b]
        for j in range(1, n):
            fold(into, x[a + j : b + j], out=into)
    return out


def _spread(x: Float, centre: Float, n: int, distance: Callable[..., Float]) -> Float:
    out = np.full(len(x), np.nan)
    for a, b in _blocks(len(x), n):
        into, middle = out[a + n - 1 : b + n - 1], centre[a + n - 1 : b + n - 1]
        into[:] = 0.0
        gap = np.empty(b - a)
        for j in range(n):
            np.subtract(x[a + j : b + j], middle, out=gap)
            into += distance(gap, out=gap)
    return out
