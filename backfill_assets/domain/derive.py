"""Derive coarser bars from finer ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import NO_TRADES, Bars, Float, Int
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import WEEK_1, Timeframe


def week_start(day: date) -> date:
    """Return the Sunday on or before the day, where the vendor's weeks start in every market."""
    return day - timedelta(days=(day.weekday() + 1) % 7)


def week_end(day: date) -> date:
    """Return the Saturday on or after the day."""
    return week_start(day) + timedelta(days=6)


def derive(bars: Bars, timeframe: Timeframe, zone: ZoneInfo) -> Bars:
    """Derive bars of `timeframe` from ordered bars of its source timeframe. Pass complete sessions, or complete weeks.

    Minutes are grouped on the UTC epoch grid, so 4h bars start at 00, 04, 08 … UTC all year. Days are grouped into weeks that
    start on Sunday 00:00 in the market's zone.
    """
    return merged(bars, bar_starts(bars.timestamp, timeframe, zone)) if len(bars) else bars


def bar_starts(timestamps: Int, timeframe: Timeframe, zone: ZoneInfo) -> Int:
    """Return the start of the derived bar that each bar belongs to, milliseconds since the epoch UTC like `timestamps`."""
    if timeframe == WEEK_1:
        return _weeks(timestamps, zone)
    return timestamps - timestamps % (timeframe.seconds * 1000)


def _weeks(timestamps: Int, zone: ZoneInfo) -> Int:
    days = [datetime.fromtimestamp(int(ms) / 1000, UTC).astimezone(zone).date() for ms in timestamps]
    sundays = [week_start(day) for day in days]
    midnights = dict(zip(unique := sorted(set(sundays)), day_starts(unique, zone), strict=True))
    return np.array([midnights[day] for day in sundays], dtype=np.int64)


def merged(bars: Bars, stamps: Int) -> Bars:
    """Merge neighbours of equal stamps: first open, last close, extremes, sums, volume-weighted vwap."""
    first = np.flatnonzero(np.append(True, stamps[1:] != stamps[:-1]))
    last = np.append(first[1:], len(stamps)) - 1
    return Bars(
        timestamp=stamps[first],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=np.add.reduceat(bars.volume, first),
        vwap=_vwap(bars, first),
        trades=_trades(bars.trades, first),
    )


def _vwap(bars: Bars, first: Int) -> Float:
    """NaN without volume, or if a bar with volume has no vwap."""
    traded = bars.volume > 0
    total = np.add.reduceat(bars.volume, first)
    value = np.add.reduceat(np.where(traded, bars.vwap * bars.volume, 0.0), first)
    out: Float = np.full(len(first), np.nan)
    np.divide(value, total, out=out, where=total > 0)
    return out


def _trades(trades: Int, first: Int) -> Int:
    """NO_TRADES if the count of any bar is unknown."""
    unknown = np.logical_or.reduceat(trades == NO_TRADES, first)
    return np.where(unknown, NO_TRADES, np.add.reduceat(trades, first))
