"""Splits: bars of different days put into the same units.

Raw prices are in the units of their day: one share before a 4:1 split is four shares after it. Seen from a later day, the
price of an earlier bar is multiplied by f, the shares before over the shares after, and its volume divided by f. Dividends
are left out: they change no volume, and no return that was traded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import Bars, Float, Int
from backfill_assets.domain.derive import derive, week_start
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import DAY_1, WEEK_1, Timeframe


class SplitLike(Protocol):
    """A split: on `ex_date`, the first day that trades in new units, `ratio_from` shares have become `ratio_to`."""

    @property
    def ex_date(self) -> date:
        """The first day in new units."""

    @property
    def ratio_from(self) -> float:
        """Shares before."""

    @property
    def ratio_to(self) -> float:
        """Shares after."""


@dataclass(frozen=True, slots=True)
class SplitRatio:
    """The plainest split: 4:1 is `SplitRatio(day, 1, 4)`, a reverse split of 1:5 is `SplitRatio(day, 5, 1)`."""

    ex_date: date
    ratio_from: float
    ratio_to: float


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The stretches of a series between its splits, numbered from 0.

    starts  int64 (s,)        when stretches 1 … s begin, milliseconds since the epoch UTC, ascending
    shares  float64 (s + 1,)  what one share of stretch 0 has become in each
    """

    starts: Int
    shares: Float

    def of(self, timestamps: Int) -> Int:
        """The stretch of each instant (milliseconds since the epoch UTC): int64, of the same shape."""
        return np.searchsorted(self.starts, timestamps, side="right")

    def factors(self, timestamps: Int, unit: int) -> Float:
        """For bars that begin at the timestamps, f into the units of stretch `unit`: price x f, volume / f. float64 (n,)."""
        factors: Float = self.shares[self.of(timestamps)] / self.shares[unit]
        return factors

    def pieces(self, timestamps: Int, first: int = 0) -> list[tuple[slice, int]]:
        """Rows `first` and up of ascending bars, cut where units change: each piece's rows and its stretch."""
        edges = np.searchsorted(timestamps, self.starts)
        rows = sorted({first, len(timestamps), *(int(edge) for edge in edges if first < edge < len(timestamps))})
        return [(slice(a, b), int(self.of(timestamps[a]))) for a, b in pairwise(rows)]


def units(splits: Sequence[SplitLike], timeframe: Timeframe, zone: ZoneInfo) -> Units:
    """The stretches that the splits of one symbol make, in any order; several of one day multiply.

    New units begin at midnight of the ex-date in the market's zone; for weeks with the ex-date's whole week, because a week
    is in the units of its last day (`weekly_bars`). ValueError for a ratio that is not a positive number.
    """
    ordered = sorted(splits, key=lambda split: split.ex_date)
    for split in ordered:
        if not all(math.isfinite(shares) and shares > 0 for shares in (split.ratio_from, split.ratio_to)):
            raise ValueError(f"the split of {split.ex_date} turns {split.ratio_from} into {split.ratio_to} shares")
    days = [week_start(split.ex_date) if timeframe == WEEK_1 else split.ex_date for split in ordered]
    before, after = (
        np.cumprod([1.0, *shares]) for shares in ([s.ratio_from for s in ordered], [s.ratio_to for s in ordered])
    )
    return Units(day_starts(days, zone), after / before)


def factors(timestamps: Int, splits: Sequence[SplitLike], as_of: int, timeframe: Timeframe, zone: ZoneInfo) -> Float:
    """For bars that begin at the timestamps, f into the units of the instant `as_of`: price x f, volume / f.

    All instants in milliseconds since the epoch UTC; float64 (n,). A bar from the ex-date on, seen from before it, is
    turned back into the shares of that day.
    """
    steps = units(splits, timeframe, zone)
    return steps.factors(timestamps, int(steps.of(np.array(as_of))))


def adjusted(bars: Bars, factor: Float) -> Bars:
    """Bars with prices times `factor`, volumes divided by it: float64 (n,). Trades stay."""
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, volume=bars.volume / factor, **prices)


def weekly_bars(daily: Bars, splits: Sequence[SplitLike], zone: ZoneInfo) -> Bars:
    """Weeks from ordered raw daily bars, each in the units of its own last day.

    Weeks without a split are those that `derive` makes. A week with one in its middle would hold prices of both units: its
    days before the ex-date are put into the units of those after it first.
    """
    by_day, by_week = (units(splits, timeframe, zone) for timeframe in (DAY_1, WEEK_1))
    day, week = by_day.of(daily.timestamp), by_week.of(daily.timestamp)
    if np.array_equal(day, week):
        return derive(daily, WEEK_1, zone)
    return derive(adjusted(daily, by_day.shares[day] / by_day.shares[week]), WEEK_1, zone)
