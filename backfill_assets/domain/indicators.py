"""Technical indicators on NumPy columns, by pandas-ta where its results are right.

Arguments and results are float64 (n,), oldest bar first, without gaps. Results are NaN where there are too few bars or the
indicator is undefined. Divisions by 0 are expected: `features.compute` disables NumPy's warnings. pandas and pandas-ta are
imported by the first call, which takes half a second, or four if its kernels are not compiled yet.

Problems of pandas-ta 0.4.71b0 that are handled here:

- A column shorter than the window gives None: replaced by NaN.
- TA-Lib is used if it is installed, with different results: disabled globally, because some functions do not forward their
  `talib` argument.
- `rsi`, `atr`, `adx` start their recursions with the first value, or with a mean that includes a bar without a predecessor.
  Wilder starts with the mean of the first n, as `wilder` does.
- `true_range`, `stoch`, `cmf` add 2.2e-16 to all rows if one of them is 0: values then depend on other bars, and a range of
  1e-8, as cheap coins have, is off by more than a relative 1e-9.
- `cmf`, `stdev`, `bbands` carry their sums from row to row: see `rolling`. `bbands` uses the sample deviation by default.
- `adx` mistakes rounding errors of two equal, opposite moves for a direction: see `directional`.
- `cci` divides before it subtracts, `mfi` counts an unchanged typical price as outflow, `natr` smooths by an EMA by default.
- `obv` accumulates without end, `vwap` groups by pandas periods and changes the process's warning filters: not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np

from backfill_assets.domain import rolling
from backfill_assets.domain.bars import Float, Int

if TYPE_CHECKING:
    import pandas as pd

# --- pandas-ta


_IMPORTING = Lock()


@cache
def _ta() -> Any:
    """Import pandas-ta once, with TA-Lib disabled."""
    with _IMPORTING:
        try:
            library = _imported()
        except (
            RuntimeError
        ):  # numba: "cannot cache function …: no locator available", where no cache folder can be written
            with _compiled_in_memory():
                library = _imported()
    return library


def _imported() -> Any:
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)  # it uses a deprecated name of pandas
        import pandas_ta  # noqa: PLC0415  # slow, and only needed to compute
        from pandas_ta.maps import Imports  # noqa: PLC0415  # the same

    Imports["talib"] = False
    return pandas_ta


@contextmanager
def _compiled_in_memory() -> Iterator[None]:
    """Disable numba's cache on disk: each process compiles its functions again."""
    dispatcher = import_module("numba.core.dispatcher").Dispatcher
    enable = dispatcher.enable_caching
    dispatcher.enable_caching = lambda _: None
    try:
        yield
    finally:
        dispatcher.enable_caching = enable


def _series(values: Float) -> pd.Series[float]:
    from pandas import Series  # noqa: PLC0415  # slow, and only needed to compute

    return Series(values)


def _values(result: pd.Series[float] | None, rows: int) -> Float:
    """Convert a result of pandas-ta; None, for too few rows, becomes NaN."""
    return np.full(rows, np.nan) if result is None else np.asarray(result, np.float64)


# --- Returns and averages


def typical(high: Float, low: Float, close: Float) -> Float:
    """(high + low + close) / 3."""
    return (high + low + close) / 3


def log_return(close: Float) -> Float:
    """ln(close / previous close), by pandas-ta."""
    return _values(_ta().log_return(_series(close), length=1), len(close))


def percent_return(close: Float) -> Float:
    """Close / previous close - 1, by pandas-ta."""
    return _values(_ta().percent_return(_series(close), length=1), len(close))


def roc(close: Float, n: int) -> Float:
    """Rate of change over n bars in percent, by pandas-ta."""
    return _values(_ta().roc(_series(close), length=n), len(close))


def sma(x: Float, n: int) -> Float:
    """Mean of the last n values, by pandas-ta, whose convolution computes every value from its window only."""
    return _values(_ta().sma(_series(x), length=n), len(x))


def ema(x: Float, n: int) -> Float:
    """Exponential average, weight 2 / (n + 1), started in row n - 1 with the mean of the first n, by pandas-ta."""
    return _values(_ta().ema(_series(x), length=n), len(x))


def macd(fast: Float, slow: Float, slow_n: int, signal_n: int) -> tuple[Float, Float, Float]:
    """MACD line, signal and histogram from two averages by `ema`, as in pandas-ta's `macd`."""
    line = fast - slow
    signal = np.full(len(line), np.nan)
    signal[slow_n - 1 :] = ema(line[slow_n - 1 :], signal_n)
    return line, signal, line - signal


def wilder(x: Float, n: int, start: int) -> Float:
    """Wilder's average, weight 1 / n, of a column that is defined from row `start` on, by pandas-ta's `rma`.

    Started in row start + n - 1 with the mean of the first n: J. Welles Wilder, New Concepts in Technical Trading Systems,
    1978.
    """
    seed = start + n - 1
    started = np.full(len(x), np.nan)
    if len(x) <= seed:
        return started
    started[seed] = x[start : seed + 1].mean()
    started[seed + 1 :] = x[seed + 1 :]
    return _values(_ta().rma(_series(started), length=n), len(x))


# --- Volatility


def true_range(high: Float, low: Float, close: Float) -> Float:
    """Maximum of high - low, |high - previous close|, |low - previous close|; NaN in row 0 (Wilder 1978)."""
    out = np.full(len(close), np.nan)
    before = close[:-1]
    out[1:] = np.maximum(high[1:], before) - np.minimum(low[1:], before)
    return out


def atr(true_ranges: Float, n: int) -> Float:
    """Average true range: Wilder's average of the n true ranges (Wilder 1978)."""
    return wilder(true_ranges, n, start=1)


def realised_volatility(log_returns: Float, n: int) -> Float:
    """Standard deviation (divisor n - 1) of the last n log returns, per bar, not annualised."""
    return rolling.deviation(log_returns, rolling.mean(log_returns, n), n, ddof=1)


def bollinger(close: Float, middle: Float, n: int, width: float) -> tuple[Float, Float, Float, Float]:
    """Upper and lower band, (upper - lower) / middle, and %B = (close - lower) / (upper - lower).

    `middle` is the mean of the last n; the bands are `width` population deviations (divisor n) from it: John Bollinger,
    Bollinger on Bollinger Bands, 2001. %B is NaN if all n closes are equal.
    """
    spread = rolling.deviation(close, middle, n, ddof=0)
    flat = spread <= rolling.NOISE * middle
    spread = np.where(flat, 0.0, spread)
    upper, lower = middle + width * spread, middle - width * spread
    percent_b = np.where(flat, np.nan, (close - lower) / (upper - lower))
    return upper, lower, (upper - lower) / middle, percent_b


# --- Momentum


def rsi(close: Float, n: int) -> Float:
    """Relative strength index, 100 g / (g + l) of Wilder's averages of gains and losses (Wilder 1978).

    NaN if nothing has moved for so long that both averages are 0.
    """
    change = rolling.change(close)
    gain, loss = (wilder(np.maximum(moves, 0.0), n, start=1) for moves in (change, -change))
    moved = gain + loss
    return np.where(moved > rolling.NOISE * close, 100 * gain / moved, np.nan)


def williams_r(high: Float, low: Float, close: Float, n: int) -> Float:
    """Williams %R, -100 at the lowest low of n bars, 0 at the highest high, by pandas-ta. NaN if both are equal."""
    value = _values(_ta().willr(*map(_series, (high, low, close)), length=n), len(close))
    top = rolling.highest(high, n)
    return np.where(top - rolling.lowest(low, n) > rolling.NOISE * top, value, np.nan)


def stochastic(williams: Float, smooth: int, n: int) -> tuple[Float, Float]:
    """%K and %D: the raw stochastic is Williams %R + 100; %K its mean over `smooth`, %D the mean of n %K."""
    k = sma(williams + 100, smooth)
    return k, sma(k, n)


def cci(high: Float, low: Float, close: Float, n: int) -> Float:
    """Commodity channel index, (typical - mean) / (0.015 mean deviation) over n bars. NaN without moves.

    Donald Lambert, Commodities magazine, October 1980.
    """
    price = typical(high, low, close)
    middle = rolling.mean(price, n)
    spread = rolling.mean_absolute_deviation(price, middle, n)
    return np.where(spread > rolling.NOISE * middle, (price - middle) / (0.015 * spread), np.nan)


def directional(high: Float, low: Float, close: Float, atrs: Float, n: int) -> tuple[Float, Float, Float]:
    """ADX, +DI and -DI (Wilder 1978). `atrs` are true ranges averaged by `atr` over the same n.

    Two opposite moves of the same size are no directional movement. Without directional movement DX is 0, as in
    Stock.Indicators: TA-Lib keeps the previous value, which makes it depend on bars arbitrarily far back.
    """
    up, down = rolling.change(high), -rolling.change(low)
    tie = np.abs(up - down) <= rolling.NOISE * close
    plus, minus = (
        wilder(np.where(~tie & (one > other) & (one > 0), one, 0.0), n, start=1)
        for one, other in ((up, down), (down, up))
    )
    moving = atrs > rolling.NOISE * close
    plus_di, minus_di = (np.where(moving, 100 * dm / atrs, np.nan) for dm in (plus, minus))
    both = plus + minus
    dx = np.where(both > rolling.NOISE * close, 100 * np.abs(plus - minus) / both, 0.0)
    return wilder(dx, n, start=n), plus_di, minus_di


# --- Volume


def mfi(high: Float, low: Float, close: Float, volume: Float, n: int) -> Float:
    """Money flow index: 100 inflow / (inflow + outflow) over n bars. NaN without flow.

    Gene Quong and Avrum Soudack, Technical Analysis of Stocks & Commodities, March 1989: inflow if the typical price rises,
    outflow if it falls, neither if it is unchanged.
    """
    price = typical(high, low, close)
    flow = _sign(price) * price * volume
    inflow, outflow = (rolling.total(np.maximum(money, 0.0), n) for money in (flow, -flow))
    flowed = inflow + outflow
    return np.where(flowed > 0, 100 * inflow / flowed, np.nan)


def cmf(high: Float, low: Float, close: Float, volume: Float, n: int) -> Float:
    """Chaikin money flow, sum of ((close - low) - (high - close)) / (high - low) x volume over the volume of n bars.

    Marc Chaikin; a bar without range counts as 0, as in Stock.Indicators. NaN without volume.
    """
    spread = high - low
    multiplier = np.where(spread > 0, ((close - low) - (high - close)) / spread, 0.0)
    traded = rolling.total(volume, n)
    return np.where(traded > 0, rolling.total(multiplier * volume, n) / traded, np.nan)


def obv_change(close: Float, volume: Float, n: int) -> Float:
    """Change of the on-balance volume over n bars: volume of rising closes minus volume of falling ones.

    Joseph Granville, 1963. The running total itself depends on its start.
    """
    return rolling.total(_sign(close) * volume, n)


def zscore(x: Float, n: int) -> Float:
    """Distance from the mean of the last n values in deviations (divisor n). NaN if all are equal."""
    middle = rolling.mean(x, n)
    spread = rolling.deviation(x, middle, n, ddof=0)
    return np.where(spread > rolling.NOISE * np.abs(middle), (x - middle) / spread, np.nan)


def anchored_vwap(price: Float, volume: Float, anchors: Int) -> Float:
    """Volume-weighted average price since the last anchor; NaN until there is volume.

    `anchors` are the rows at which the average restarts, ascending, beginning with 0.
    """
    value, traded = price * volume, volume.copy()
    lengths = np.diff(anchors, append=len(price))
    for start, length in zip(anchors[lengths > 1], lengths[lengths > 1], strict=True):
        rows = slice(start, start + length)
        value[rows], traded[rows] = value[rows].cumsum(), traded[rows].cumsum()
    return np.where(traded > 0, value / traded, np.nan)


def _sign(price: Float) -> Float:
    """1 if the price rose, -1 if it fell, 0 if it is unchanged apart from rounding; NaN in row 0."""
    change = rolling.change(price)
    return np.where(np.abs(change) <= rolling.NOISE * price, 0.0, np.sign(change))
