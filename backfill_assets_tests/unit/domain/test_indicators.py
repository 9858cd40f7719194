"""Indicators compared with results by hand and with their definitions in loops, and where they are undefined."""

import math

import numpy as np
import pytest

from backfill_assets.domain import indicators as ta
from backfill_assets_tests.unit.domain.walks import column, minutes, same, walk

pytestmark = pytest.mark.usefixtures("quiet_divisions")

nan = np.nan


# --- By hand


def test_returns():
    same(ta.log_return(column(1, math.e, math.e)), [nan, 1, 0])
    same(ta.percent_return(column(4, 5, 4)), [nan, 0.25, -0.2])
    same(ta.roc(column(2, 3, 5, 3), 2), [nan, nan, 150, 0])


def test_averages():
    same(ta.sma(column(1, 2, 3, 7), 3), [nan, nan, 2, 4])
    same(ta.ema(column(1, 2, 3, 4, 9), 3), [nan, nan, 2, 3, 6])
    same(ta.wilder(column(nan, 2, 4, 6, 4), 2, start=1), [nan, nan, 3, 4.5, 4.25])


def test_macd_of_2_3_2():
    close = column(1, 2, 3, 4, 9)
    line, signal, histogram = ta.macd(ta.ema(close, 2), ta.ema(close, 3), 3, 2)
    # EMA 2: 1.5, 2.5, 3.5, 7 1/6 from row 1; EMA 3: 2, 3, 6 from row 2.
    same(line, [nan, nan, 0.5, 0.5, 7 / 6])
    same(signal, [nan, nan, nan, 0.5, 1 / 3 * 0.5 + 2 / 3 * 7 / 6])
    same(histogram, [nan, nan, nan, 0, 7 / 6 - (1 / 6 + 7 / 9)])


def test_true_ranges_and_their_average():
    high, low, close = column(5, 9, 8), column(3, 8, 6), column(4, 8, 7)
    same(ta.true_range(high, low, close), [nan, 5, 2])
    same(ta.atr(ta.true_range(high, low, close), 2), [nan, nan, 3.5])


def test_realised_volatility():
    same(ta.realised_volatility(column(nan, 1, 3), 2), [nan, nan, math.sqrt(2)])


def test_bollinger_bands():
    upper, lower, width, percent_b = ta.bollinger(column(1, 3), column(nan, 2), 2, 2.0)
    same(upper, [nan, 4])
    same(lower, [nan, 0])
    same(width, [nan, 2])
    same(percent_b, [nan, 0.75])


def test_relative_strength():
    # Gains 1 0 2, losses 0 1 0: averages 0.5 and 0.5, then 1.25 and 0.25.
    same(ta.rsi(column(5, 6, 5, 7), 2), [nan, nan, 50, 100 * 1.25 / 1.5])


def test_williams_and_the_stochastic():
    high, low, close = column(4, 6, 5, 5), column(2, 3, 3, 1), column(3, 5, 4, 2)
    same(ta.williams_r(high, low, close, 2), [nan, -25, -200 / 3, -75])
    k, d = ta.stochastic(column(nan, -25, -75, -75), 2, 2)
    same(k, [nan, nan, 50, 25])
    same(d, [nan, nan, nan, 37.5])


def test_commodity_channel():
    # Typical prices 1, 2, 6: mean 3, mean deviation 2.
    x = column(1, 2, 6)
    same(ta.cci(x, x, x, 3), [nan, nan, 100])


def test_directional_movement():
    high, low, close = column(10, 12, 13, 13), column(8, 9, 11, 8), column(9, 11, 12, 9)
    atrs = ta.atr(ta.true_range(high, low, close), 2)
    adx, plus, minus = ta.directional(high, low, close, atrs, 2)
    # True ranges 3 2 5: averages 2.5, 3.75. +DM 2 1 0: 1.5, 0.75. -DM 0 0 3: 0, 1.5. DX 100, 33 1/3.
    same(plus, [nan, nan, 60, 20])
    same(minus, [nan, nan, 0, 40])
    same(adx, [nan, nan, nan, (100 + 100 / 3) / 2])


def test_opposite_moves_of_one_size_are_no_directional_movement():
    # 10.05 - 10.00 and 9.95 - 9.90 are 0.05 each, and differ in floating point.
    high, low, close = column(10.00, 10.05), column(9.95, 9.90), column(9.97, 9.97)
    _, plus, minus = ta.directional(high, low, close, ta.atr(ta.true_range(high, low, close), 1), 1)
    same(plus, [nan, 0])
    same(minus, [nan, 0])


def test_money_flow():
    # Typical prices 1 2 2 1: in 2 x 10, neither, out 1 x 5.
    x, volume = column(1, 2, 2, 1), column(7, 10, 90, 5)
    same(ta.mfi(x, x, x, volume, 3), [nan, nan, nan, 80])


def test_chaikin_money_flow():
    # Multipliers 0.5, 0 (no range), -1.
    high, low, close = column(4, 3, 4), column(0, 3, 2), column(3, 3, 2)
    same(ta.cmf(high, low, close, column(6, 2, 1), 3), [nan, nan, (3 - 1) / 9])


def test_on_balance_volume():
    same(ta.obv_change(column(1, 2, 2, 1, 3), column(9, 5, 7, 2, 4), 2), [nan, nan, 5, -2, 2])


def test_zscore():
    same(ta.zscore(column(1, 3, 3), 2), [nan, 1, nan])


def test_the_average_price_restarts_at_each_anchor():
    price, volume = column(1, 2, 9, 5, 7), column(1, 3, 2, 0, 2)
    same(ta.anchored_vwap(price, volume, np.array([0, 2])), [1, 1.75, 9, 9, 8])
    same(ta.anchored_vwap(price, volume, np.array([0, 3])), [1, 1.75, 25 / 6, nan, 7])
    same(ta.anchored_vwap(price, volume, np.arange(5)), [1, 2, 9, nan, 7])


# --- Definitions in loops, where no sheet has the column


def by_windows(n, first, of):
    """Compute a column whose row i, from `first` on, is `of(a, b)` of its n rows [a, b)."""
    return lambda rows: [nan] * first + [of(i - n + 1, i + 1) for i in range(first, rows)]


def test_realised_volatility_by_definition(lively):
    returns = [nan, *(math.log(b / a) for a, b in zip(lively.close, lively.close[1:], strict=False))]
    for n in (20, 60):

        def sample_deviation(a, b, n=n):
            middle = math.fsum(returns[a:b]) / n
            return math.sqrt(math.fsum((x - middle) ** 2 for x in returns[a:b]) / (n - 1))

        want = by_windows(n, n, sample_deviation)(len(lively))
        same(ta.realised_volatility(ta.log_return(lively.close), n), want, rtol=1e-9)


def test_cci_by_definition(lively):
    price = [(h + lo + c) / 3 for h, lo, c in zip(lively.high, lively.low, lively.close, strict=True)]

    def channel(a, b):
        middle = math.fsum(price[a:b]) / 20
        return (price[b - 1] - middle) / (0.015 * math.fsum(abs(x - middle) for x in price[a:b]) / 20)

    want = by_windows(20, 19, channel)(len(lively))
    np.testing.assert_allclose(ta.cci(lively.high, lively.low, lively.close, 20), want, rtol=1e-9, atol=1e-9)


def test_volume_zscore_by_definition(lively):
    def distance(a, b):
        v = lively.volume[a:b]
        middle = math.fsum(v) / 20
        return (v[-1] - middle) / math.sqrt(math.fsum((x - middle) ** 2 for x in v) / 20)

    np.testing.assert_allclose(
        ta.zscore(lively.volume, 20), by_windows(20, 19, distance)(len(lively)), rtol=1e-9, atol=1e-9
    )


# --- Undefined values


def test_without_moves_there_is_no_strength_and_no_position_in_a_range():
    x = np.full(400, 10.01)
    for undefined in (
        ta.rsi(x, 14),
        ta.williams_r(x, x, x, 14),
        ta.cci(x, x, x, 20),
        ta.mfi(x, x, x, x, 14),
        ta.zscore(x, 20),
        ta.bollinger(x, ta.sma(x, 20), 20, 2.0)[3],
    ):
        assert np.isnan(undefined).all()
    upper, lower, width, _ = ta.bollinger(x, ta.sma(x, 20), 20, 2.0)
    np.testing.assert_array_equal(upper, lower)
    assert width[-1] == 0
    assert ta.realised_volatility(ta.log_return(x), 20)[-1] == 0


def test_vanished_averages_give_no_strength():
    x = np.append(column(10, 11, 10.5), np.full(500, 10.5))
    strength = ta.rsi(x, 2)
    assert strength[20] == pytest.approx(strength[3])
    assert np.isnan(strength[-1])


def test_inside_bars_have_no_direction_and_an_adx_of_0():
    high, low, close = np.full(60, 11.0), np.full(60, 9.0), np.full(60, 10.0)
    adx, plus, minus = ta.directional(high, low, close, ta.atr(ta.true_range(high, low, close), 14), 14)
    assert (adx[-1], plus[-1], minus[-1]) == (0, 0, 0)


def test_without_volume_there_is_no_flow():
    bars = walk(minutes(60))
    none = np.zeros(60)
    assert np.isnan(ta.cmf(bars.high, bars.low, bars.close, none, 20)).all()
    assert np.isnan(ta.mfi(bars.high, bars.low, bars.close, none, 14)).all()
    assert np.isnan(ta.anchored_vwap(bars.close, none, np.array([0]))).all()
    assert ta.obv_change(bars.close, none, 20)[-1] == 0
