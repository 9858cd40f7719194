"""What pandas-ta 0.4.71b0 gets wrong.

If one of these tests fails after an upgrade, pandas-ta may be fixed, and our own version of the indicator can go.
"""

import numpy as np
import pandas as pd
import pytest

from backfill_assets.domain import indicators as ta
from backfill_assets.domain import rolling
from backfill_assets_tests.unit.domain.walks import column, minutes, same, walk

pytestmark = pytest.mark.usefixtures("quiet_divisions")

nan = np.nan


@pytest.fixture(scope="module")
def library():
    return ta._ta()


@pytest.fixture(scope="module")
def series(lively):
    return {name: pd.Series(getattr(lively, name)) for name in ("high", "low", "close", "volume")}


def differs(theirs, ours, by):
    """Return whether a value after 100 rows differs by more than a share."""
    theirs, ours = np.asarray(theirs)[100:], ours[100:]
    return bool(np.nanmax(np.abs(theirs - ours) / np.abs(ours)) > by)


def test_pandas_tas_cci_divides_before_it_subtracts(library, series, lively):
    ours = ta.cci(lively.high, lively.low, lively.close, 20)
    assert differs(library.cci(series["high"], series["low"], series["close"], length=20), ours, by=10)


def test_pandas_tas_natr_smooths_by_an_ema_by_default(library, series, lively):
    ours = 100 * ta.atr(ta.true_range(lively.high, lively.low, lively.close), 14) / lively.close
    bars = series["high"], series["low"], series["close"]
    assert differs(library.natr(*bars, length=14), ours, by=0.05)
    settled = slice(330, None)
    same(library.natr(*bars, length=14, mamode="rma").to_numpy()[settled], ours[settled], rtol=1e-8)


def test_pandas_tas_mfi_counts_an_unchanged_price_as_outflow(library):
    x, volume = column(1, 2, 2, 1), column(7, 10, 90, 5)
    theirs = library.mfi(*(pd.Series(x),) * 3, pd.Series(volume), length=3)
    same(theirs[3], 100 * 20 / (20 + 180 + 5))
    same(ta.mfi(x, x, x, volume, 3)[3], 80)


def test_pandas_tas_directional_indicators_start_from_zero(library):
    bars = walk(minutes(500), tick=1e-9)
    high, low, close = bars.high, bars.low, bars.close
    ours = ta.directional(high, low, close, ta.atr(ta.true_range(high, low, close), 14), 14)
    theirs = library.adx(*map(pd.Series, (high, low, close)), length=14)
    columns = [theirs[name].to_numpy() for name in ("ADX_14", "DMP_14", "DMN_14")]
    # Wilder's averages start with the mean of the first 14.
    assert any(abs(their[14] / mine[14] - 1) > 0.2 for their, mine in zip(columns[1:], ours[1:], strict=True))
    for their, mine in zip(columns, ours, strict=True):
        np.testing.assert_allclose(their[495:], mine[495:], atol=1e-6)


def test_pandas_tas_directional_movement_mistakes_rounding_for_a_direction(library):
    high, low = np.tile(column(10.00, 10.05), 20), np.tile(column(9.95, 9.90), 20)
    close = (high + low) / 2
    theirs = library.adx(*map(pd.Series, (high, low, close)), length=14)
    assert max(theirs["DMP_14"].iloc[-1], theirs["DMN_14"].iloc[-1]) > 10
    ours = ta.directional(high, low, close, ta.atr(ta.true_range(high, low, close), 14), 14)
    assert [x[-1] for x in ours] == [0, 0, 0]


def test_pandas_tas_rsi_starts_with_the_first_change(library, series, lively):
    ours, theirs = ta.rsi(lively.close, 14), library.rsi(series["close"], length=14).to_numpy()
    assert abs(theirs[14] - ours[14]) > 1
    np.testing.assert_allclose(theirs[395:], ours[395:], atol=1e-6)


def test_pandas_tas_bollinger_bands_use_the_sample_deviation(library, series, lively):
    upper = ta.bollinger(lively.close, ta.sma(lively.close, 20), 20, 2.0)[0]
    population = library.bbands(series["close"], length=20, ddof=0)["BBU_20_2.0_2.0"].to_numpy()
    default = library.bbands(series["close"], length=20)["BBU_20_2.0_2.0"].to_numpy()
    np.testing.assert_allclose(population[19:], upper[19:], rtol=1e-9)
    assert np.nanmax(np.abs(default - upper)) > 1e-3


def test_pandas_tas_deviation_depends_on_bars_before_its_window(library):
    x = np.append(np.exp(np.random.default_rng(0).normal(0, 8, 500)), np.full(100, 1.0))
    assert library.stdev(pd.Series(x), length=20, ddof=1).iloc[-1] != 0
    assert rolling.deviation(x, rolling.mean(x, 20), 20, ddof=1)[-1] == 0


def test_pandas_tas_true_range_changes_every_row_if_one_bar_is_flat(library):
    high, low, close = column(2e-8, 1e-8, 3e-8), column(1e-8, 1e-8, 1e-8), column(1e-8, 1e-8, 2e-8)
    theirs = library.true_range(*map(pd.Series, (high, low, close)))
    assert theirs[2] != 2e-8 or theirs[1] != 0
    same(ta.true_range(high, low, close) * 1e8, [nan, 0, 2])


def test_pandas_tas_stochastic_of_a_flat_window_is_0(library):
    flat = pd.Series(np.full(40, 5.0))
    assert library.stoch(flat, flat, flat)["STOCHk_14_3_3"].iloc[-1] == 0
    assert np.isnan(ta.stochastic(ta.williams_r(*(np.full(40, 5.0),) * 3, 14), 3, 3)[0][-1])


def test_pandas_ta_gives_none_for_few_rows_and_indicators_nan(library):
    few = column(1, 2, 3)
    assert library.ema(pd.Series(few), length=5) is None
    for ours in (ta.ema(few, 5), ta.sma(few, 5), ta.roc(few, 5), ta.rsi(few, 5), ta.williams_r(few, few, few, 5)):
        np.testing.assert_array_equal(ours, np.full(3, nan))


def test_macd_equals_pandas_tas(library, series, lively):
    theirs = library.macd(series["close"]).to_numpy()
    line, signal, histogram = ta.macd(ta.ema(lively.close, 12), ta.ema(lively.close, 26), 26, 9)
    np.testing.assert_array_equal(np.column_stack([line, histogram, signal]), theirs)
