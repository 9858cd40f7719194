"""The indicators of traded volume, on NumPy columns.

Arguments are float64 (n,), oldest bar first, without gaps; so are results, with NaN where the bars do not suffice or nothing
is defined. Divisions by 0 are part of it: `features.compute` calls them with NumPy's warnings off.
"""

from __future__ import annotations

import numpy as np

from backfill_assets.domain import rolling
from backfill_assets.domain.bars import Float, Int


def typical(high: Float, low: Float, close: Float) -> Float:
    """(high + low + close) / 3."""
    return (high + low + close) / 3


def mfi(high: Float, low: Float, close: Float, volume: Float, n: int) -> Float:
    """Money flow index: 100 inflow / (inflow + outflow) over n bars. NaN where no money flowed.

    Gene Quong and Avrum Soudack, Technical Analysis of Stocks & Commodities, March 1989: money flows in where the typical
    price rises, out where it falls, and neither way where it stays.
    """
    price = typical(high, low, close)
    flow = _sign(price) * price * volume
    inflow, outflow = (rolling.total(np.maximum(money, 0.0), n) for money in (flow, -flow))
    flowed = inflow + outflow
    return np.where(flowed > 0, 100 * inflow / flowed, np.nan)


def cmf(high: Float, low: Float, close: Float, volume: Float, n: int) -> Float:
    """Chaikin money flow, sum of ((close - low) - (high - close)) / (high - low) x volume over the volume of n bars.

    Marc Chaikin; a bar without range counts as 0, as in Stock.Indicators. NaN where nothing was traded.
    """
    spread = high - low
    multiplier = np.where(spread > 0, ((close - low) - (high - close)) / spread, 0.0)
    traded = rolling.total(volume, n)
    return np.where(traded > 0, rolling.total(multiplier * volume, n) / traded, np.nan)


def obv_change(close: Float, volume: Float, n: int) -> Float:
    """Change of the on-balance volume over n bars: their volume, that of falling closes taken off.

    Joseph Granville, 1963. The running total itself depends on where it was begun.
    """
    return rolling.total(_sign(close) * volume, n)


def zscore(x: Float, n: int) -> Float:
    """Distance from the mean of the last n values, in their deviations (divisor n). NaN where they are all the same."""
    middle = rolling.mean(x, n)
    spread = rolling.deviation(x, middle, n, ddof=0)
    return np.where(spread > rolling.NOISE * np.abs(middle), (x - middle) / spread, np.nan)


def anchored_vwap(price: Float, volume: Float, anchors: Int) -> Float:
    """Average price weighted by volume since the last anchor; NaN until something is traded.

    `anchors` are the rows that begin anew, ascending, 0 the first of them.
    """
    value, traded = price * volume, volume.copy()
    lengths = np.diff(anchors, append=len(price))
    for start, length in zip(anchors[lengths > 1], lengths[lengths > 1], strict=True):
        rows = slice(start, start + length)
        value[rows], traded[rows] = value[rows].cumsum(), traded[rows].cumsum()
    return np.where(traded > 0, value / traded, np.nan)


def _sign(price: Float) -> Float:
    """1 where the price rose, -1 where it fell, 0 where it stayed but for rounding; NaN in row 0."""
    change = rolling.change(price)
    return np.where(np.abs(change) <= rolling.NOISE * price, 0.0, np.sign(change))
