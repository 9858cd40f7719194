"""Indicators compared with TA-Lib, in a separate environment, since pandas-ta changes its results if it is installed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from backfill_assets.domain import indicators as ta
from backfill_assets_tests.unit.domain.walks import minutes, walk

TA_LIB = "TA-Lib==0.6.8"

THEIRS = """
import sys
import numpy as np
import talib
bars = np.load(sys.argv[1])
high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
prices = high, low, close
macd = talib.MACD(close, 12, 26, 9)
bands = talib.BBANDS(close, 20, 2.0, 2.0)
slow = talib.STOCH(*prices, 14, 3, 0, 3, 0)
np.savez(sys.argv[2],
    true_range=talib.TRANGE(*prices), atr=talib.ATR(*prices, 14), natr=talib.NATR(*prices, 14), rsi=talib.RSI(close, 14),
    sma=talib.SMA(close, 20), ema=talib.EMA(close, 12), macd=macd[0], macd_signal=macd[1], macd_histogram=macd[2],
    upper=bands[0], lower=bands[2], adx=talib.ADX(*prices, 14), plus_di=talib.PLUS_DI(*prices, 14),
    minus_di=talib.MINUS_DI(*prices, 14), williams_r=talib.WILLR(*prices, 14), stochastic_k=slow[0], stochastic_d=slow[1],
    mfi=talib.MFI(*prices, volume, 14), cci=talib.CCI(*prices, 20), roc=talib.ROC(close, 10),
    obv_change=np.append(np.full(20, np.nan), talib.OBV(close, volume)[20:] - talib.OBV(close, volume)[:-20]))
"""

# Where its recursion starts differently (MACD: both averages in row 25; DI: a sum of 13 moves), both converge later.
MEET_IN_ROW = {"macd": 200, "macd_signal": 200, "macd_histogram": 200, "adx": 350, "plus_di": 300, "minus_di": 300}


@pytest.fixture(scope="module")
def bars():
    # A fine grid: TA-Lib mistakes rounding of equal prices and equal moves for a direction.
    return walk(minutes(2000), seed=3, volatility=2e-3, tick=1e-9)


@pytest.fixture(scope="module")
def theirs(bars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ta-lib")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    got = subprocess.run(
        [*pip, "--no-deps", "--target", folder / "site", TA_LIB], capture_output=True, text=True, check=False
    )
    if got.returncode:
        pytest.skip(f"{TA_LIB} cannot be installed here: {got.stderr.strip().splitlines()[-1]}")
    np.savez(folder / "bars.npz", high=bars.high, low=bars.low, close=bars.close, volume=bars.volume)
    subprocess.run(
        [sys.executable, "-c", THEIRS, folder / "bars.npz", folder / "answers.npz"],
        env=os.environ | {"PYTHONPATH": str(folder / "site")},
        check=True,
    )
    with np.load(folder / "answers.npz") as answers:
        return dict(answers)


@pytest.fixture(scope="module")
def ours(bars):
    prices, close, volume = (bars.high, bars.low, bars.close), bars.close, bars.volume
    true_range = ta.true_range(*prices)
    atr = ta.atr(true_range, 14)
    fast, slow = ta.ema(close, 12), ta.ema(close, 26)
    macd, signal, histogram = ta.macd(fast, slow, 26, 9)
    williams_r = ta.williams_r(*prices, 14)
    with np.errstate(all="ignore"):
        upper, lower, _, _ = ta.bollinger(close, ta.sma(close, 20), 20, 2.0)
        adx, plus_di, minus_di = ta.directional(*prices, atr, 14)
        stochastic_k, stochastic_d = ta.stochastic(williams_r, 3, 3)
        return {
            "true_range": true_range,
            "atr": atr,
            "natr": 100 * atr / close,
            "rsi": ta.rsi(close, 14),
            "sma": ta.sma(close, 20),
            "ema": fast,
            "macd": macd,
            "macd_signal": signal,
            "macd_histogram": histogram,
            "upper": upper,
            "lower": lower,
            "adx": adx,
            "plus_di": plus_di,
            "minus_di": minus_di,
            "williams_r": williams_r,
            "stochastic_k": stochastic_k,
            "stochastic_d": stochastic_d,
            "mfi": ta.mfi(*prices, volume, 14),
            "cci": ta.cci(*prices, 20),
            "roc": ta.roc(close, 10),
            "obv_change": ta.obv_change(close, volume, 20),
        }


def test_values_agree_with_ta_lib_where_both_have_one(ours, theirs):
    assert set(ours) == set(theirs)
    for name, answers in theirs.items():
        rows = np.arange(len(answers))
        there = ~np.isnan(answers) & (rows >= MEET_IN_ROW.get(name, 0))
        assert there.sum() >= 1600, name
        # Values near 0 are compared to 1e-9 of 0.01.
        np.testing.assert_allclose(ours[name][there], answers[there], rtol=1e-9, atol=1e-11, err_msg=name)
