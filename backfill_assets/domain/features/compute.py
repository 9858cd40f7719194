"""Compute rows of features from bars."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain import adjustments
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.bars import Bars, Float
from backfill_assets.domain.features.catalog import COLUMNS, FEATURES, Scaling
from backfill_assets.domain.features.window import Window
from backfill_assets.domain.timeframes import Base, Timeframe

LOOK_BACK = 640
"""Bars loaded before a range: more than any feature needs, for stretches without moves. A changed bar changes the features of
this many bars after it."""

_NEEDED = ("high", "low", "close", "volume")


def look_back(timeframe: Timeframe) -> int | None:
    """Return how many bars to load before a range; None: all bars, since days and weeks have few."""
    return None if timeframe.base is Base.DAY else LOOK_BACK


def compute(bars: Bars, zone: ZoneInfo, first: int = 0) -> Float:
    """Compute the features of rows `first` and up of bars in the same units: float64 (len(bars) - first, len(COLUMNS)).

    bars   consecutive bars of one series, oldest first, with `look_back` bars before `first` unless the series starts later.
           They must include the first bar of the session of row `first`
    zone   the market's zone, whose days are sessions

    Values are NaN in the first bars of a series (`Column.warm_up`) and where an indicator is undefined, such as an average
    price without volume. ValueError if a price or a volume is not finite.
    """
    for name in _NEEDED:
        if not np.isfinite(getattr(bars, name)).all():
            raise ValueError(f"features need finite numbers, but {name} has NaN or infinity")
    out = np.empty((len(bars) - first, len(COLUMNS)), order="F")  # written, and mostly read, by columns
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
    bars: Bars, timeframe: Timeframe, zone: ZoneInfo, splits: Sequence[SplitRatio] = (), first: int = 0
) -> Float:
    """Compute the features of rows `first` and up of raw bars, each in the units of its own day.

    Arguments, result and errors as in `compute`; `splits` are the symbol's, at least those within the bars. The range is cut
    where units change, and each piece computed from a window in its own units. Weekly bars are those of
    `adjustments.weekly_bars`.
    """
    periods = adjustments.units(splits, timeframe, zone)
    reach = look_back(timeframe)
    parts: list[Float] = [np.empty((0, len(COLUMNS)))]
    for rows, unit in periods.pieces(bars.timestamp, first):
        # A later piece starts with a session, so its window may start anywhere.
        begin = 0 if reach is None or rows.start == first else max(0, rows.start - reach)
        window = bars.take(slice(begin, rows.stop))
        if periods.of(window.timestamp[0]) != unit:
            window = adjustments.adjusted(window, periods.factors(window.timestamp, unit))
        parts.append(compute(window, zone, rows.start - begin))
    return np.concatenate(parts)


def rescaled(values: Float, factor: Float) -> Float:
    """Convert rows of features, (n, len(COLUMNS)), to other units. `factor`, (n,), comes from `adjustments.factors`.

    Prices are multiplied, volumes divided, ratios stay.
    """
    powers = {Scaling.PRICE: 1.0, Scaling.VOLUME: -1.0, Scaling.NONE: 0.0}
    scaled: Float = values * factor[:, None] ** np.array([powers[column.scaling] for column in COLUMNS])
    return scaled
