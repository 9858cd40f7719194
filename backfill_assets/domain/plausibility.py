"""Find prices that are far from all prices around them.

A vendor's bars hold prints at wrong prices, some of which it corrects later. They are reported, and never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import DAY_1, Timeframe

NEAR = 5
"""Bars before and after a bar that it is compared with; of minutes, those of the same session."""

REGULAR_MARGIN, EXTENDED_MARGIN = 1.10, 1.20
"""FINRA rule 11892: a trade at up to 25 dollars is clearly erroneous if its price is 10 % away, outside regular hours
20 %. At higher prices the rule is narrower. Coins have no regular hours."""

DAY_MARGIN = 1.65
"""Of daily bars: a day that falls by 40 % and recovers before its end is named."""

OUTSIDE_MARGIN, OUTSIDE_SHARE, OUTSIDE_BARS = 1.02, 0.05, 3
"""Minutes of regular hours close within the day's range, but for single prints at wrong prices. A session is named if this
share of them, and this many, are outside by this factor: its minutes have another unit, or are those of another symbol."""


@dataclass(frozen=True, slots=True, order=True)
class Outlier:
    """A price far outside the usual range: the start of its bar (UTC), and the lowest and highest price around it."""

    symbol: str
    timeframe: str
    at: datetime
    value: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class PriceRange:
    """The lowest and the highest of some prices, both positive."""

    lowest: float
    highest: float


def least_margin(timeframe: Timeframe) -> float:
    """Return the smallest factor by which a price of the timeframe may be outside its surroundings."""
    return DAY_MARGIN if timeframe == DAY_1 else REGULAR_MARGIN


def margin(kind: Kind, timeframe: Timeframe, at: datetime) -> float:
    """Return the factor by which a bar's prices may be outside its surroundings. `at` is the start of the bar, aware."""
    if timeframe == DAY_1:
        return DAY_MARGIN
    local = at.astimezone(HOURS[kind].zone).time()
    regular = kind is Kind.STOCKS and time(9, 30) <= local < time(16)
    return REGULAR_MARGIN if regular else EXTENDED_MARGIN


def implausible(
    bar: PriceRange, near: PriceRange, day: PriceRange | None, factor: float
) -> tuple[list[float], PriceRange]:
    """Return the prices of a bar that are far outside, and the range around it.

    bar     its low and high
    near    opens and closes of the bars around it. Where these differ more than by the factor, so may the bar
    day     low and high of the day, None if they are not known
    """
    lowest = min(near.lowest, day.lowest) if day else near.lowest
    highest = max(near.highest, day.highest) if day else near.highest
    factor = max(factor, near.highest / near.lowest)
    outside = [bar.lowest] * (bar.lowest * factor < lowest) + [bar.highest] * (bar.highest > highest * factor)
    return outside, PriceRange(lowest, highest)
