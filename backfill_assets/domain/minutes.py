"""Whether a session has as many minute bars as it likely should.

A minute without a trade has no bar, so a count by itself says little. A session is judged against the sessions around
it, scaled by how long its regular trading lasted, and only a count far outside their spread is called partial.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from backfill_assets.domain.bars import Float, Int

AROUND = 20
"""Sessions before and after that one is judged by: about a month each."""

FEWEST_TO_JUDGE_BY = 5
LEAST_SHARE = 0.7
"""Of what is likely: a session with at least so much of it is not called partial. A liquid stock that lacks its regular
session from 10:00 on keeps about 0.6 of its minutes, those of the extended hours."""

SPREADS = 6.0
"""Median absolute deviations below the median: of a normal distribution, one in 20,000 lies so far out by chance."""


def likely_minutes(bars: Int, regular: Int) -> tuple[Float, Float]:
    """What each session's number of minute bars should be about, and the spread of it: two float64 (n,).

    `bars` int64 (n,) are the counts of a symbol's sessions, ascending in time, `regular` int64 (n,) the minutes of
    regular trading of each. NaN where too few others are there to judge by.
    """
    rate = bars / regular
    around = np.pad(rate, AROUND, constant_values=np.nan)
    window = sliding_window_view(around, 2 * AROUND + 1).copy() if len(bars) else np.empty((0, 2 * AROUND + 1))
    window[:, AROUND] = np.nan  # a session is no witness of itself
    enough = np.count_nonzero(~np.isnan(window), axis=1) >= FEWEST_TO_JUDGE_BY
    likely, spread = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    if enough.any():
        middle = np.nanmedian(window[enough], axis=1)
        likely[enough] = middle * regular[enough]
        spread[enough] = np.nanmedian(np.abs(window[enough] - middle[:, None]), axis=1) * regular[enough]
    return likely, spread


def partial(bars: Int, regular: Int) -> NDArray[np.bool_]:
    """Which sessions have far fewer minutes than is likely: bool (n,). Arguments as in `likely_minutes`."""
    likely, spread = likely_minutes(bars, regular)
    # Comparisons with NaN are false: what cannot be judged is not called partial.
    thin: NDArray[np.bool_] = (bars < LEAST_SHARE * likely) & (bars < likely - SPREADS * spread)
    return thin
