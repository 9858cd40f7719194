"""Adjust bars for splits and dividends.

Raw prices are in the units of their day: one share before a 4:1 split is four shares after it. To compare an earlier bar with
a later day, multiply its prices by f = shares before / shares after, and divide its volume by f. A cash
dividend multiplies the prices before its ex-date by 1 - cash / last close before it, both in the same shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from backfill_assets.domain.bars import Bars, Float, Int
from backfill_assets.domain.derive import derive, week_start
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import DAY_1, WEEK_1, Timeframe


@dataclass(frozen=True, slots=True)
class SplitRatio:
    """From `ex_date` on, `ratio_from` old shares are `ratio_to` new ones: 1 and 4 for 4:1, 5 and 1 for a reverse split."""

    ex_date: date
    ratio_from: float
    ratio_to: float


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The periods between the splits of a series, numbered from 0. Prices within a period are in the same units.

    starts  int64 (s,)        start of periods 1 … s, milliseconds since the epoch UTC, ascending
    shares  float64 (s + 1,)  shares that one share of period 0 has become in each period
    """

    starts: Int
    shares: Float

    def of(self, timestamps: Int) -> Int:
        """Return the period of each timestamp (milliseconds since the epoch UTC): int64, same shape."""
        return np.searchsorted(self.starts, timestamps, side="right")

    def factors(self, timestamps: Int, unit: int) -> Float:
        """Return the factor f of each bar into the units of period `unit` (price x f, volume / f): float64 (n,)."""
        factors: Float = self.shares[self.of(timestamps)] / self.shares[unit]
        return factors

    def pieces(self, timestamps: Int, first: int = 0) -> list[tuple[slice, int]]:
        """Cut rows `first` and up of ascending bars where units change: the rows of each piece and its period."""
        edges = np.searchsorted(timestamps, self.starts)
        rows = sorted({first, len(timestamps), *(int(edge) for edge in edges if first < edge < len(timestamps))})
        return [(slice(a, b), int(self.of(timestamps[a]))) for a, b in pairwise(rows)]


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """The time of a symbol that ends with each split or dividend, and the factors of bars in it into a later day's units.

    ends       int64 (s,)    when each ends, ascending; bars after the last one have the factors 1
    price      float64 (s,)  what prices are multiplied by
    shares     float64 (s,)  what volumes are divided by
    uncertain  bool (s,)     whether a dividend is missing from `price`
    """

    ends: Int
    price: Float
    shares: Float
    uncertain: NDArray[np.bool_]

    def factors(self, timestamps: Int) -> tuple[Float, Float]:
        """Return the factors of prices and of volumes, float64 (n,) each. ValueError if they are uncertain for one of them.

        Timestamps have the unit of `ends`.
        """
        at = np.searchsorted(self.ends, timestamps, side="right")
        if bool(np.append(self.uncertain, False)[at].any()):
            raise ValueError(f"a dividend after {timestamps[0]} is uncertain")
        return np.append(self.price, 1.0)[at], np.append(self.shares, 1.0)[at]


def units(splits: Sequence[SplitRatio], timeframe: Timeframe, zone: ZoneInfo) -> Units:
    """Return the periods between the splits of one symbol, given in any order; ratios of the same day are multiplied.

    A period starts at midnight of the ex-date in the market's zone. For weekly bars it starts with the week of the ex-date,
    because a week is in the units of its last day (`weekly_bars`). ValueError if a ratio is not a positive number.
    """
    ordered = sorted(splits, key=lambda split: split.ex_date)
    for split in ordered:
        if not all(math.isfinite(shares) and shares > 0 for shares in (split.ratio_from, split.ratio_to)):
            raise ValueError(
                f"the split of {split.ex_date} has an invalid ratio: {split.ratio_from} to {split.ratio_to} shares"
            )
    days = [week_start(split.ex_date) if timeframe == WEEK_1 else split.ex_date for split in ordered]
    before, after = (
        np.cumprod([1.0, *shares]) for shares in ([s.ratio_from for s in ordered], [s.ratio_to for s in ordered])
    )
    return Units(day_starts(days, zone), after / before)


def factors(timestamps: Int, splits: Sequence[SplitRatio], as_of: int, timeframe: Timeframe, zone: ZoneInfo) -> Float:
    """Return the factor f of each bar into the units of `as_of` (price x f, volume / f): float64 (n,).

    Timestamps and `as_of` are milliseconds since the epoch UTC. `as_of` may lie before a split of the bars.
    """
    periods = units(splits, timeframe, zone)
    return periods.factors(timestamps, int(periods.of(np.array(as_of))))


def adjusted(bars: Bars, factor: Float) -> Bars:
    """Multiply prices and divide volumes by `factor`, float64 (n,). Trade counts stay."""
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, volume=bars.volume / factor, **prices)


def weekly_bars(daily: Bars, splits: Sequence[SplitRatio], zone: ZoneInfo) -> Bars:
    """Derive weeks from ordered raw daily bars, each week in the units of its last day.

    In a week with a split, the days before the ex-date are adjusted to the days after it first.
    """
    by_day, by_week = (units(splits, timeframe, zone) for timeframe in (DAY_1, WEEK_1))
    day, week = by_day.of(daily.timestamp), by_week.of(daily.timestamp)
    if np.array_equal(day, week):
        return derive(daily, WEEK_1, zone)
    return derive(adjusted(daily, by_day.shares[day] / by_day.shares[week]), WEEK_1, zone)
