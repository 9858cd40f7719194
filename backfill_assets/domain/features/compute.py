"""From bars to rows of features."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain import adjustments
from backfill_assets.domain.adjustments import SplitLike
from backfill_assets.domain.bars import Bars, Float
from backfill_assets.domain.features.catalog import COLUMNS, FEATURES
from backfill_assets.domain.features.feature import Scaling
from backfill_assets.domain.features.window import Window
from backfill_assets.domain.timeframes import Base, Timeframe

LOOK_BACK = 640
"""Bars that go before a range: more than any entry's own, which leaves room for stretches in which nothing moves. A changed
bar changes features as many bars after it."""

_NEEDED = ("high", "low", "close", "volume")


def look_back(timeframe: Timeframe) -> int | None:
    """How many bars to load before the first that is reported; None: all there are, which days and weeks have few of."""
    return None if timeframe.base is Base.DAY else LOOK_BACK


def compute(bars: Bars, zone: ZoneInfo, first: int = 0) -> Float:
    """The features of rows `first` and up of a window of bars in the same units: float64 (len(bars) - first, len(COLUMNS)).

    bars   consecutive bars of one series, oldest first. Where the window does not begin with the series itself, `look_back`
           bars go before `first`. The session of row `first` is in it from its first bar: ranges of whole sessions are.
    zone   the market's: a session is a day in it

    NaN is what has no value: the series' first bars (`Column.warm_up`), and what the indicator does not define, as an average
    price of no volume. ValueError where a price or a volume is not a finite number.
    """
    for name in _NEEDED:
        if not np.isfinite(getattr(bars, name)).all():
            raise ValueError(f"features need finite numbers; {name} has others")
    out = np.empty((len(bars) - first, len(COLUMNS)), order="F")  # filled, and mostly read, by columns
    window = Window(bars, zone)
    at = 0
    with np.errstate(all="ignore"):
        for feature in FEATURES:
            for values in feature.compute(window):
                out[:, at] = values[first:]
                at += 1
    out[~np.isfinite(out)] = np.nan
    return out


def compute_range(
    bars: Bars, timeframe: Timeframe, zone: ZoneInfo, splits: Sequence[SplitLike] = (), first: int = 0
) -> Float:
    """The features of rows `first` and up of raw bars, each in the units of its own day.

    Arguments, result and errors as of `compute`; `splits` are the symbol's, all of them or those that the bars cross. The
    range is cut where units change, and each piece computed from its window in its own units. Weeks are those of
    `adjustments.weekly_bars`.
    """
    steps = adjustments.units(splits, timeframe, zone)
    reach = look_back(timeframe)
    parts: list[Float] = [np.empty((0, len(COLUMNS)))]
    for rows, unit in steps.pieces(bars.timestamp, first):
        # A later piece opens a session, so its window may be cut anywhere before it.
        begin = 0 if reach is None or rows.start == first else max(0, rows.start - reach)
        window = bars.take(slice(begin, rows.stop))
        if steps.of(window.timestamp[0]) != unit:
            window = adjustments.adjusted(window, steps.factors(window.timestamp, unit))
        parts.append(compute(window, zone, rows.start - begin))
    return np.concatenate(parts)


def rescaled(values: Float, factor: Float) -> Float:
    """Rows of features, (n, len(COLUMNS)), in other units: `factor`, (n,), as `adjustments.factors` gives it for their bars.

    What is a price is multiplied, what is a volume divided, what is a ratio stays.
    """
    powers = {Scaling.PRICE: 1.0, Scaling.VOLUME: -1.0, Scaling.NONE: 0.0}
    scaled: Float = values * factor[:, None] ** np.array([powers[column.scaling] for column in COLUMNS])
    return scaled
