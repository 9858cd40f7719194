"""The catalog of features: one entry per indicator, one column per stored number.

To add a feature, add an entry, a migration with its columns, a test of its values, and a line in docs/FEATURES.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from backfill_assets.domain import indicators as ta
from backfill_assets.domain.bars import Float
from backfill_assets.domain.features.window import Window

type Bounds = tuple[float | None, float | None]


class Scaling(StrEnum):
    """How a value is converted to the units of another day: as a price (x f), as a volume (/ f), or not at all."""

    PRICE = "price"
    VOLUME = "volume"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the feature table.

    unit     unit of the values
    warm_up  number of bars of a series before the first value
    scaling  how a split changes it
    bounds   minimum and maximum, apart from rounding; None if unbounded
    """

    name: str
    unit: str
    description: str
    warm_up: int
    scaling: Scaling = Scaling.NONE
    bounds: Bounds = (None, None)


@dataclass(frozen=True, slots=True)
class Feature:
    """An indicator with its columns.

    name      the indicator; the column's name if it has one column
    source    implementation and definition
    columns   in the order of the results of `compute`
    compute   computes one float64 (n,) per column from a window of n bars
    settles   for recursions: bars after which the start no longer matters, to 1e-9 of the column's scale.
              None if each value depends on a fixed number of bars
    """

    name: str
    source: str
    columns: tuple[Column, ...]
    compute: Callable[[Window], tuple[Float, ...]]
    settles: int | None = None

    @property
    def look_back(self) -> int:
        """The number of bars before a row that give the same values as the full history, to 1e-9 of the scale for
        recursions.
        """
        return self.settles or max(column.warm_up for column in self.columns)


PRICE, VOLUME, NONE = Scaling.PRICE, Scaling.VOLUME, Scaling.NONE

NOT_NEGATIVE: Bounds = (0.0, None)
STRENGTH: Bounds = (0.0, 100.0)


def _one(column: Column, source: str, compute: Callable[[Window], Float], settles: int | None = None) -> Feature:
    return Feature(column.name, source, (column,), lambda window: (compute(window),), settles)


def _realised_volatility(n: int) -> Feature:
    column = Column(
        f"realised_vol_{n}",
        "per bar",
        f"standard deviation of {n} log returns, divisor {n - 1}",
        n,
        bounds=NOT_NEGATIVE,
    )
    return _one(column, "sample deviation in two passes", lambda w: ta.realised_volatility(w.log_return, n))


def _sma(n: int) -> Feature:
    column = Column(f"sma_{n}", "price", f"mean of {n} closes", n - 1, PRICE, NOT_NEGATIVE)
    return _one(column, "pandas-ta `sma`", lambda w: w.sma(n))


def _ema(n: int, settles: int) -> Feature:
    column = Column(f"ema_{n}", "price", f"exponential average of closes, weight 2/{n + 1}", n - 1, PRICE, NOT_NEGATIVE)
    return _one(column, "pandas-ta `ema`", lambda w: w.ema(n), settles)


def _directional(window: Window) -> tuple[Float, ...]:
    return ta.directional(window.high, window.low, window.close, window.atr_14, 14)


def _bollinger(window: Window) -> tuple[Float, ...]:
    middle = window.sma(20)
    upper, lower, width, percent_b = ta.bollinger(window.close, middle, 20, 2.0)
    return upper, middle, lower, width, percent_b


# `settles` was measured on random walks of 0.01 % to 10 % per bar, and rounded up.
FEATURES: tuple[Feature, ...] = (
    _one(
        Column("log_return", "fraction", "ln(close / close before)", 1),
        "pandas-ta `log_return`",
        lambda w: w.log_return,
    ),
    _one(
        Column("pct_return", "fraction", "close / close before - 1", 1, bounds=(-1.0, None)),
        "pandas-ta `percent_return`",
        lambda w: ta.percent_return(w.close),
    ),
    _realised_volatility(20),
    _realised_volatility(60),
    _one(
        Column("true_range", "price", "high or close before, less low or close before", 1, PRICE, NOT_NEGATIVE),
        "Wilder 1978",
        lambda w: w.true_range,
    ),
    _one(
        Column("atr_14", "price", "Wilder's average of 14 true ranges", 14, PRICE, NOT_NEGATIVE),
        "pandas-ta `rma`, begun as in Wilder 1978",
        lambda w: w.atr_14,
        settles=300,
    ),
    _one(
        Column("natr_14", "percent", "100 atr_14 / close", 14, bounds=NOT_NEGATIVE),
        "from atr_14",
        lambda w: 100 * w.atr_14 / w.close,
        settles=300,
    ),
    _one(
        Column("rsi_14", "0 to 100", "100 g / (g + l), Wilder's averages of 14 gains and losses", 14, bounds=STRENGTH),
        "pandas-ta `rma`, begun as in Wilder 1978",
        lambda w: ta.rsi(w.close, 14),
        settles=340,
    ),
    Feature(
        "macd_12_26_9",
        "pandas-ta `ema` three times, as its `macd`",
        (
            Column("macd", "price", "ema_12 - ema_26", 25, PRICE),
            Column("macd_signal", "price", "exponential average of macd over 9", 33, PRICE),
            Column("macd_histogram", "price", "macd - macd_signal", 33, PRICE),
        ),
        lambda w: ta.macd(w.ema(12), w.ema(26), 26, 9),
        settles=400,
    ),
    Feature(
        "bollinger_20",
        "Bollinger 2001, population deviation in two passes",
        (
            Column(
                "bb_upper_20", "price", "bb_middle_20 + 2 deviations of 20 closes, divisor 20", 19, PRICE, NOT_NEGATIVE
            ),
            Column("bb_middle_20", "price", "mean of 20 closes", 19, PRICE, NOT_NEGATIVE),
            Column("bb_lower_20", "price", "bb_middle_20 - 2 deviations", 19, PRICE),
            Column("bb_width_20", "fraction", "(upper - lower) / middle", 19, bounds=NOT_NEGATIVE),
            Column("bb_percent_b_20", "fraction", "(close - lower) / (upper - lower)", 19),
        ),
        _bollinger,
    ),
    _sma(20),
    _sma(50),
    _ema(12, settles=140),
    _ema(26, settles=280),
    _ema(50, settles=540),
    Feature(
        "adx_14",
        "pandas-ta `rma`, begun as in Wilder 1978",
        (
            Column(
                "adx_14", "0 to 100", "Wilder's average of 14 DX = 100 |+DI - -DI| / (+DI + -DI)", 27, bounds=STRENGTH
            ),
            Column("plus_di_14", "0 to 100", "100 Wilder's average of +DM / atr_14", 14, bounds=STRENGTH),
            Column("minus_di_14", "0 to 100", "100 Wilder's average of -DM / atr_14", 14, bounds=STRENGTH),
        ),
        _directional,
        settles=400,
    ),
    Feature(
        "stochastic_14_3_3",
        "pandas-ta `willr`, `sma`",
        (
            Column(
                "stoch_k_14",
                "0 to 100",
                "mean over 3 of 100 (close - lowest) / (highest - lowest) of 14",
                15,
                bounds=STRENGTH,
            ),
            Column("stoch_d_14", "0 to 100", "mean over 3 of stoch_k_14", 17, bounds=STRENGTH),
        ),
        lambda w: ta.stochastic(w.williams_r_14, 3, 3),
    ),
    _one(
        Column(
            "williams_r_14", "-100 to 0", "100 (close - highest) / (highest - lowest) of 14", 13, bounds=(-100.0, 0.0)
        ),
        "pandas-ta `willr`",
        lambda w: w.williams_r_14,
    ),
    _one(
        Column(
            "mfi_14",
            "0 to 100",
            "100 i / (i + o), typical x volume of 14 bars with a rise and with a fall",
            14,
            bounds=STRENGTH,
        ),
        "Quong and Soudack 1989",
        lambda w: ta.mfi(w.high, w.low, w.close, w.volume, 14),
    ),
    _one(
        Column("cci_20", "index", "(typical - its mean) / (0.015 its mean deviation) of 20", 19),
        "Lambert 1980",
        lambda w: ta.cci(w.high, w.low, w.close, 20),
    ),
    _one(
        Column(
            "cmf_20", "-1 to 1", "where closes lie in their ranges, weighted by volume, over 20", 19, bounds=(-1.0, 1.0)
        ),
        "Chaikin",
        lambda w: ta.cmf(w.high, w.low, w.close, w.volume, 20),
    ),
    _one(
        Column("roc_10", "percent", "100 (close / close of 10 bars before - 1)", 10, bounds=(-100.0, None)),
        "pandas-ta `roc`",
        lambda w: ta.roc(w.close, 10),
    ),
    _one(
        Column(
            "session_vwap",
            "price",
            "typical price weighted by volume, since the session's first bar",
            0,
            PRICE,
            NOT_NEGATIVE,
        ),
        "sums by session",
        lambda w: ta.anchored_vwap(ta.typical(w.high, w.low, w.close), w.volume, w.session_starts),
    ),
    _one(
        Column("obv_change_20", "volume", "volume of 20 bars, that of falling closes taken off", 20, VOLUME),
        "Granville 1963, windowed",
        lambda w: ta.obv_change(w.close, w.volume, 20),
    ),
    _one(
        Column("volume_zscore_20", "deviations", "(volume - its mean) / its deviation of 20, divisor 20", 19),
        "population deviation in two passes",
        lambda w: ta.zscore(w.volume, 20),
    ),
)
"""Every feature, in the order of the table's columns."""

COLUMNS: tuple[Column, ...] = tuple(column for feature in FEATURES for column in feature.columns)
"""Every column, in the order of FEATURES: the columns of the results of `compute`."""
