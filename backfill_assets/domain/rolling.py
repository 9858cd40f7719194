"""Rolling reductions that compute every value from its own window.

pandas carries its rolling sums and variances from row to row, so a value depends on all rows before it, and a constant
stretch after a volatile one does not give exactly 0. Here each value is computed from its n values in the same order, in n
passes over plain arrays. Results have NaN in their first n - 1 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from backfill_assets.domain.bars import Float

NOISE = 1e-12
"""Changes below this fraction of the price (or volume) are rounding errors. float64 is exact to 1e-16, adjusting a price
loses a few of these, and real ticks are at least 1e-10 of the price."""

_BLOCK = 1 << 13
"""Rows processed at a time, so that intermediate results stay in the processor's cache."""


def total(x: Float, n: int) -> Float:
    """Sum of the last n values: (len(x),)."""
    return _folded(x, n, np.add)


def mean(x: Float, n: int) -> Float:
    """Mean of the last n values: (len(x),)."""
    return total(x, n) / n


def highest(x: Float, n: int) -> Float:
    """Maximum of the last n values: (len(x),)."""
    return _folded(x, n, np.maximum)


def lowest(x: Float, n: int) -> Float:
    """Minimum of the last n values: (len(x),)."""
    return _folded(x, n, np.minimum)


def deviation(x: Float, centre: Float, n: int, ddof: int) -> Float:
    """Standard deviation of the last n values about `centre`, their mean; the divisor is n - ddof: (len(x),)."""
    return np.sqrt(_spread(x, centre, n, np.square) / (n - ddof))


def mean_absolute_deviation(x: Float, centre: Float, n: int) -> Float:
    """Mean distance of the last n values from `centre`, their mean: (len(x),)."""
    return _spread(x, centre, n, np.absolute) / n


def change(x: Float) -> Float:
    """Difference to the previous value, NaN in row 0: (len(x),)."""
    return np.diff(x, prepend=np.nan)


def _blocks(rows: int, n: int) -> Iterator[tuple[int, int]]:
    """The first rows of the complete windows, in blocks [a, b)."""
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
