"""Find sessions with far fewer minute bars than expected.

A minute without a trade has no bar, so a count by itself says little. A session is compared with the sessions around it, in
proportion to the length of regular trading, and is partial only if its count is far outside their spread.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from backfill_assets.domain.bars import Float, Int

AROUND = 20
"""Sessions compared before and after: about a month each."""

MIN_NEIGHBOURS = 5
MIN_SHARE = 0.7
"""A session with at least this share of the likely count is not partial. A liquid stock without its regular session from
10:00 on still has about 0.6 of its minutes, those of the extended hours."""

SPREADS = 6.0
"""Median absolute deviations below the median: in a normal distribution, one of 20,000 is that far out by chance."""


def likely_minutes(bars: Int, regular: Int) -> tuple[Float, Float]:
    """Return the likely number of minute bars of each session, and its spread: two float64 (n,).

    `bars` int64 (n,) are the counts of a symbol's sessions in order of time, `regular` int64 (n,) their minutes of regular
    trading. NaN with fewer than MIN_NEIGHBOURS other sessions.
    """
    rate = bars / regular
    around = np.pad(rate, AROUND, constant_values=np.nan)
    window = sliding_window_view(around, 2 * AROUND + 1).copy() if len(bars) else np.empty((0, 2 * AROUND + 1))
    window[:, AROUND] = np.nan  # a session is not compared with itself
    enough = np.count_nonzero(~np.isnan(window), axis=1) >= MIN_NEIGHBOURS
    likely, spread = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    if enough.any():
        middle = np.nanmedian(window[enough], axis=1)
        likely[enough] = middle * regular[enough]
        spread[enough] = np.nanmedian(np.abs(window[enough] - middle[:, None]), axis=1) * regular[enough]
    return likely, spread


def partial(bars: Int, regular: Int) -> NDArray[np.bool_]:
    """Return which sessions have far fewer minutes than likely: bool (n,). Arguments as in `likely_minutes`."""
    likely, spread = likely_minutes(bars, regular)
    # Comparisons with NaN are false: a session without enough neighbours is not partial.
    thin: NDArray[np.bool_] = (bars < MIN_SHARE * likely) & (bars < likely - SPREADS * spread)
    return thin
