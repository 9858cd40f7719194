"""Generate synthetic minute and day bars of a ticker.

Days start and end on a random walk over calendar days; within a day, a bridge of minute steps connects both ends. Every
number depends on ticker, day and minute only, so a range has the same bars however it is requested.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backfill_assets.simulator.columns import Columns
from backfill_assets.simulator.noise import bits, normals, seed, uniforms
from backfill_assets.simulator.sessions import MINUTE_MS, Days, Market, day_number
from backfill_assets.simulator.universe import Profile

Float = NDArray[np.float64]
Grid = NDArray[np.float64]

_ORIGIN = day_number(date(2003, 1, 1))
_HORIZON = day_number(date(2040, 12, 31))
_ANCHOR = day_number(date(2024, 6, 28))
# standard deviation of a day's log return, typical of large stocks and coins
_DAILY_MOVE = {"stocks": 0.012, "crypto": 0.024}
_DRIFT = {"stocks": 0.0002, "crypto": 0.0004}  # log return per calendar day: 7.5 and 15 % a year


@dataclass(frozen=True, slots=True, eq=False)
class Minutes:
    """All minutes of n days: arrays of shape (n, span). `traded` marks those that are bars."""

    t: NDArray[np.int64]
    clock: NDArray[np.int64]  # (span,) minutes since the market's midnight
    open: Grid
    high: Grid
    low: Grid
    close: Grid
    volume: Grid
    vwap: Grid
    trades: NDArray[np.int64]
    traded: NDArray[np.bool_]


@lru_cache(maxsize=512)
def _levels(ticker: str, market: Market) -> Float:
    day = np.arange(_ORIGIN, _HORIZON + 2, dtype=np.int64)
    steps = normals(bits(seed("level", ticker), day)) * _DAILY_MOVE[market] + _DRIFT[market]
    walk = np.cumsum(steps)
    return np.asarray(walk - walk[_ANCHOR - _ORIGIN], dtype=np.float64)


def rounded(price: Float, reference: Profile) -> Float:
    """Round prices as quoted: stocks to a cent (a hundredth of it below a dollar), coins by their price."""
    if reference.market == "crypto":
        decimals = 2 if reference.price >= 100 else 4 if reference.price >= 1 else 8
        return np.asarray(np.maximum(np.round(price, decimals), 10.0**-decimals))
    return np.asarray(np.maximum(np.where(price >= 1.0, np.round(price, 2), np.round(price, 4)), 0.0001))


@lru_cache(maxsize=4)
def _profiles(market: Market, half: bool) -> tuple[Float, Float]:  # noqa: FBT001 - one private caller
    """By minute of the day (1440,): share of the volume, and size of moves relative to the regular session."""
    clock = np.arange(1440)
    if market == "crypto":
        return np.full(1440, 1 / 1440), np.ones(1440)
    close = 780 if half else 960
    regular = (clock >= 570) & (clock < close)
    middle = (570 + close) / 2
    share = np.where(regular, 0.5 + 1.5 * ((clock - middle) / (close - middle)) ** 2, 0.0)
    share *= 0.86 / share.sum()
    share = np.where(regular, share, 0.05 / 570)
    share[close] = 0.09  # the closing auction is in the minute that starts at the close
    return share, np.where(regular, 1.0, 0.35)


def minutes(who: Profile, days: Days, scale: Float) -> Minutes:
    """Generate every minute of the days. `scale` (n,) multiplies prices and divides volumes, for later splits."""
    n, span = len(days), days.span
    clock = np.arange(days.first, days.first + span, dtype=np.int64)
    index = days.day[:, None] * 1440 + clock[None, :]
    half = days.closes == 780
    full_share, move = _profiles(days.market, half=False)
    half_share, _ = _profiles(days.market, half=True)
    share = np.where(half[:, None], half_share[clock][None, :], full_share[clock][None, :])

    sigma = _DAILY_MOVE[days.market] * move[clock] / np.sqrt(np.sum(move[clock] ** 2))
    walk = np.cumsum(normals(bits(seed("step", who.ticker), index)) * sigma[None, :], axis=1)
    ramp = np.arange(1, span + 1, dtype=np.float64) / span
    levels = _levels(who.ticker, days.market)
    here, there = levels[days.day - _ORIGIN][:, None], levels[days.day + 1 - _ORIGIN][:, None]
    path = here + walk - ramp * walk[:, -1:] + ramp * (there - here)
    before = np.concatenate([here, path[:, :-1]], axis=1)

    up, down, jump, luck = uniforms(bits(seed("shape", who.ticker), index))
    burst, middle, size, _ = uniforms(bits(seed("volume", who.ticker), index))
    level = scale[:, None] * who.price
    tick = sigma[None, :] * 0.5
    first = np.exp(before) * (1 + (jump - 0.5) * tick) * level
    last = np.exp(path) * level
    opened, closed = rounded(first, who), rounded(last, who)
    high = rounded(np.maximum(first, last) * (1 + up * tick), who)
    low = rounded(np.minimum(first, last) * (1 - down * tick), who)
    vwap = np.round(low + (high - low) * (0.2 + 0.6 * middle), 4 if days.market == "stocks" else 8)

    busy = np.exp(0.3 * normals(bits(seed("busy", who.ticker), days.day)))[:, None]
    volume = who.volume * busy * share * (0.2 + 1.6 * burst) / scale[:, None]
    volume = np.maximum(np.round(volume), 1.0) if days.market == "stocks" else np.maximum(np.round(volume, 6), 1e-6)
    trades = np.maximum(1, np.minimum(volume, (volume / (60 + 80 * size)) + 20 * size)).astype(np.int64)
    if days.market == "crypto":
        trades = (3 + 300 * size * busy).astype(np.int64)

    closes, c = days.closes[:, None], clock[None, :]
    regular = (c >= days.opens[:, None]) & (c < closes)
    traded = (c < days.last[:, None]) & (luck < np.where(regular, who.regular, who.extended))
    if days.market == "stocks":
        traded |= c == closes
    t = days.start[:, None] + c * MINUTE_MS
    assert t.shape == (n, span)  # noqa: S101 - the lines above rely on it
    return Minutes(t, clock, opened, high, low, closed, volume, vwap, trades, traded)


def minute_bars(days: Days, all_minutes: Minutes, until: int) -> Columns:
    """Return the minutes with trades that had ended at `until` (ms UTC)."""
    m = all_minutes
    rows = m.traded & (m.t + MINUTE_MS <= until)
    day = np.broadcast_to(days.day[:, None], m.t.shape)[rows]
    columns: tuple[Any, ...] = (m.t, m.open, m.high, m.low, m.close, m.volume, m.vwap, m.trades)
    return Columns(day, *(column[rows] for column in columns))


def day_bars(days: Days, all_minutes: Minutes, until: int) -> Columns:
    """Build day bars from minutes up to `until` (ms UTC): prices of the regular session, volume of all hours.

    The close of a stock is the price of the closing auction, the open of the minute that starts at the close, once that
    minute has ended. A day without a regular minute has no bar.
    """
    m = all_minutes
    there = m.traded & (m.t + MINUTE_MS <= until)
    clock = m.clock[None, :]
    regular = there & (clock >= days.opens[:, None]) & (clock < days.closes[:, None])
    rows = np.arange(len(days))
    first = regular.argmax(axis=1)
    final = m.t.shape[1] - 1 - regular[:, ::-1].argmax(axis=1)
    high = np.where(regular, m.high, -np.inf).max(axis=1)
    low = np.where(regular, m.low, np.inf).min(axis=1)
    close = m.close[rows, final]
    if days.market == "stocks":
        auction = days.closes - days.first
        printed = there[rows, auction]
        price = m.open[rows, auction]
        close = np.where(printed, price, close)
        high, low = np.where(printed, np.maximum(high, price), high), np.where(printed, np.minimum(low, price), low)
    volume = np.where(there, m.volume, 0.0).sum(axis=1)
    money = np.where(there, m.volume * m.vwap, 0.0).sum(axis=1)
    bars = Columns(
        days.day,
        days.start,
        m.open[rows, first],
        high,
        low,
        close,
        np.round(volume, 6),
        np.round(money / np.maximum(volume, 1e-12), 4 if days.market == "stocks" else 8),
        np.where(there, m.trades, 0).sum(axis=1),
    )
    return bars.take(np.asarray(regular.any(axis=1), dtype=np.bool_))
