"""The indicators, on NumPy columns: pandas-ta where it is right, put right where it is not.

Arguments are float64 (n,), oldest bar first, without gaps; so are results, with NaN where the bars do not suffice or nothing
is defined. Divisions by 0 are part of it: `features.compute` calls them with NumPy's warnings off. pandas-ta is imported by
the first call: that takes half a second, and four where its kernels are not compiled yet.

pandas-ta 0.4.71b0, and what is done about it:

- A column shorter than the window gives None: here NaN throughout.
- TA-Lib, where it happens to be installed, takes over and gives other results: switched off for all of pandas-ta, because
  some functions do not forward their `talib` argument.
- `rsi`, `atr`, `adx` start their recursions with the first value, or with a mean that counts a bar without a predecessor.
  Wilder starts with the mean of the first n: given to pandas-ta's `rma` here.
- `true_range`, `stoch`, `cmf` add 2.2e-16 to all rows as soon as one of them is 0: a value then depends on other bars, and a
  range of 1e-8, which cheap coins have, is off by more than 1e-9 of it.
- `cmf`, `stdev`, `bbands` use sums that are carried along: see `rolling`. `bbands` takes the sample's deviation by default.
- `adx` takes the rounding of two equal, opposite moves for a direction: see `directional`.
- `cci` divides before it subtracts, `mfi` counts an unchanged typical price as outflow, `natr` smooths by an EMA by default.
- `obv` adds up for ever, `vwap` groups by pandas periods and leaves a process-wide warning filter behind: not called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd

from backfill_assets.domain import rolling
from backfill_assets.domain.bars import Float
from backfill_assets.domain.volume_indicators import typical

# --- The door


_IMPORTING = Lock()


@cache
def _ta() -> Any:
    """pandas-ta, with TA-Lib switched off."""
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
        simplefilter("ignore", DeprecationWarning)  # it reads a date's day of the year by a name that pandas gives up
        import pandas_ta  # noqa: PLC0415  # only those who compute pay for it
        from pandas_ta.maps import Imports  # noqa: PLC0415  # the same

    Imports["talib"] = False
    return pandas_ta


@contextmanager
def _compiled_in_memory() -> Iterator[None]:
    """Within, functions that ask numba for a cache on disk get none: each process compiles them anew."""
    dispatcher = import_module("numba.core.dispatcher").Dispatcher
    enable = dispatcher.enable_caching
    dispatcher.enable_caching = lambda _: None
    try:
        yield
    finally:
        dispatcher.enable_caching = enable


def _values(result: pd.Series[float] | None, rows: int) -> Float:
    """What pandas-ta gave as an array; None, for too few rows, is NaN throughout."""
    return np.full(rows, np.nan) if result is None else np.asarray(result, np.float64)


# --- Returns and averages


def log_return(close: Float) -> Float:
    """ln(close / the close before): pandas-ta."""
    return _values(_ta().log_return(pd.Series(close), length=1), len(close))


def percent_return(close: Float) -> Float:
    """Close / the close before - 1, a fraction: pandas-ta."""
    return _values(_ta().percent_return(pd.Series(close), length=1), len(close))


def roc(close: Float, n: int) -> Float:
    """Rate of change over n bars, in percent: pandas-ta."""
    return _values(_ta().roc(pd.Series(close), length=n), len(close))


def sma(x: Float, n: int) -> Float:
    """Mean of the last n values: pandas-ta, whose convolution takes every value from its window alone."""
    return _values(_ta().sma(pd.Series(x), length=n), len(x))


def ema(x: Float, n: int) -> Float:
    """Exponential average, weight 2 / (n + 1), begun in row n - 1 with the mean of the first n: pandas-ta."""
    return _values(_ta().ema(pd.Series(x), length=n), len(x))


def macd(fast: Float, slow: Float, slow_n: int, signal_n: int) -> tuple[Float, Float, Float]:
    """MACD line, signal and histogram of two averages by `ema`, as pandas-ta's `macd` has them.

    Given the averages, because the feature set has them anyway.
    """
    line = fast - slow
    signal = np.full(len(line), np.nan)
    signal[slow_n - 1 :] = ema(line[slow_n - 1 :], signal_n)
    return line, signal, line - signal


def wilder(x: Float, n: int, start: int) -> Float:
    """Wilder's average, weight 1 / n, of a column defined from row `start` on: pandas-ta's `rma`.

    Begun with the mean of the first n, in row start + n - 1: J. Welles Wilder, New Concepts in Technical Trading Systems,
    1978.
    """
    seed = start + n - 1
    begun = np.full(len(x), np.nan)
    if len(x) <= seed:
        return begun
    begun[seed] = x[start : seed + 1].mean()
    begun[seed + 1 :] = x[seed + 1 :]
    return _values(_ta().rma(pd.Series(begun), length=n), len(x))


# --- Volatility


def true_range(high: Float, low: Float, close: Float) -> Float:
    """Greatest of high - low, |high - close before|, |low - close before|; NaN in row 0 (Wilder 1978)."""
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

    `middle` is the mean of the last n; the bands lie `width` population deviations (divisor n) off it: John Bollinger,
    Bollinger on Bollinger Bands, 2001. %B is NaN where all n closes are the same.
    """
    spread = rolling.deviation(close, middle, n, ddof=0)
    still = spread <= rolling.NOISE * middle
    spread = np.where(still, 0.0, spread)
    upper, lower = middle + width * spread, middle - width * spread
    percent_b = np.where(still, np.nan, (close - lower) / (upper - lower))
    return upper, lower, (upper - lower) / middle, percent_b


# --- Momentum


def rsi(close: Float, n: int) -> Float:
    """Relative strength index, 100 g / (g + l) of Wilder's averages of gains and losses (Wilder 1978).

    NaN where nothing has moved for so long that the averages have died away.
    """
    change = rolling.change(close)
    gain, loss = (wilder(np.maximum(moves, 0.0), n, start=1) for moves in (change, -change))
    moved = gain + loss
    return np.where(moved > rolling.NOISE * close, 100 * gain / moved, np.nan)


def williams_r(high: Float, low: Float, close: Float, n: int) -> Float:
    """Williams %R, -100 at the lowest low of n bars, 0 at the highest high: pandas-ta. NaN where the two are the same."""
    value = _values(_ta().willr(*map(pd.Series, (high, low, close)), length=n), len(close))
    top = rolling.highest(high, n)
    return np.where(top - rolling.lowest(low, n) > rolling.NOISE * top, value, np.nan)


def stochastic(williams: Float, smooth: int, n: int) -> tuple[Float, Float]:
    """%K and %D: the raw stochastic is Williams %R + 100; %K its mean over `smooth`, %D the mean of n %K."""
    k = sma(williams + 100, smooth)
    return k, sma(k, n)


def cci(high: Float, low: Float, close: Float, n: int) -> Float:
    """Commodity channel index, (typical - mean) / (0.015 mean deviation) over n bars. NaN where nothing has moved.

    Donald Lambert, Commodities magazine, October 1980.
    """
    price = typical(high, low, close)
    middle = rolling.mean(price, n)
    spread = rolling.mean_absolute_deviation(price, middle, n)
    return np.where(spread > rolling.NOISE * middle, (price - middle) / (0.015 * spread), np.nan)


def directional(high: Float, low: Float, close: Float, atrs: Float, n: int) -> tuple[Float, Float, Float]:
    """ADX, +DI and -DI (Wilder 1978), with true ranges averaged by `atr` over the same n.

    Two opposite moves of the same size are no directional movement. Without any directional movement DX is 0, as in
    Stock.Indicators: TA-Lib carries on the value before, which would make it depend on bars however far back.
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
