"""Indicators compared with the reference data of Stock.Indicators."""

import csv

import numpy as np
import pytest

from backfill_assets.domain import indicators as ta
from backfill_assets_tests.support import PROJECT

TRUTH = PROJECT.parent / "shared" / "truth" / "stock-indicators"
pytestmark = [
    pytest.mark.skipif(not TRUTH.is_dir(), reason="the sheets of Stock.Indicators are not beside this clone"),
    pytest.mark.usefixtures("quiet_divisions"),
]


def sheet(name):
    """Read the columns of a sheet: its bars, and its results with NaN for empty cells."""
    with (TRUTH / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [key for key in rows[0] if key.lower() != "date"]
    return {key: np.array([float(row[key] or "nan") for row in rows]) for key in names}


def daily():
    return sheet("default")


def averages(bars):
    return ta.ema(bars["close"], 12), ta.ema(bars["close"], 26)


def macd(bars):
    return ta.macd(*averages(bars), 26, 9)


def bands(bars):
    return ta.bollinger(bars["close"], ta.sma(bars["close"], 20), 20, 2.0)


def prices(bars):
    return bars["high"], bars["low"], bars["close"]


def atr(bars):
    return ta.atr(ta.true_range(*prices(bars)), 14)


def directional(bars):
    return ta.directional(*prices(bars), atr(bars), 14)


def stochastic(bars):
    return ta.stochastic(ta.williams_r(*prices(bars), 14), 3, 3)


ANSWERS = [
    # sheet, its column, our values, the magnitude of the column
    ("Tr", "TR", lambda b: ta.true_range(*prices(b)), 1),
    ("Atr", "ATR", atr, 1),
    ("Atr", "ATR%", lambda b: 100 * atr(b) / b["close"], 1),
    ("Rsi", "RSI(14)", lambda b: ta.rsi(b["close"], 14), 1),
    ("Macd", "EMA12", lambda b: averages(b)[0], 1),
    ("Macd", "EMA26", lambda b: averages(b)[1], 1),
    # MACD is a small difference of averages of about 250, so errors are relative to those.
    ("Macd", "MACD", lambda b: macd(b)[0], 250),
    ("Macd", "Signal", lambda b: macd(b)[1], 250),
    ("Macd", "Histo", lambda b: macd(b)[2], 250),
    ("Ema", "ema", lambda b: ta.ema(b["close"], 20), 1),
    ("Sma", "SMA", lambda b: ta.sma(b["close"], 20), 1),
    ("BollingerBands", "upper", lambda b: bands(b)[0], 1),
    ("BollingerBands", "lower", lambda b: bands(b)[1], 1),
    ("BollingerBands", "width", lambda b: bands(b)[2], 1),
    ("BollingerBands", "%b", lambda b: bands(b)[3], 1),
    ("StdDev", "zscore", lambda b: ta.zscore(b["close"], 10), 1),
    ("Adx", "ADX", lambda b: directional(b)[0], 1),
    ("Adx", "+DI14", lambda b: directional(b)[1], 1),
    ("Adx", "-DI14", lambda b: directional(b)[2], 1),
    ("Stoch", "%K", lambda b: stochastic(b)[0], 1),
    ("Stoch", "%D", lambda b: stochastic(b)[1], 1),
    ("WilliamsR", "%R", lambda b: ta.williams_r(*prices(b), 14), 1),
    ("Mfi", "mf", lambda b: ta.mfi(*prices(b), b["volume"], 14), 1),
    ("Cmf", "cmf", lambda b: ta.cmf(*prices(b), b["volume"], 20), 1),
    ("Roc", "roc", lambda b: ta.roc(b["close"], 20), 1),
    ("Vwap", "VWAP", lambda b: ta.anchored_vwap(ta.typical(*prices(b)), b["volume"], np.array([0])), 1),
]


@pytest.mark.parametrize(("name", "key", "ours", "scale"), ANSWERS, ids=[f"{a[0]} {a[1]}" for a in ANSWERS])
def test_every_row_agrees_with_the_sheet(name, key, ours, scale):
    answers = sheet(name)
    bars = answers if name == "Vwap" else daily()
    # Values near 0 (a return, a z-score) are compared to 1e-9 of 0.01.
    np.testing.assert_allclose(ours(bars), answers[key], rtol=1e-9, atol=1e-11 * scale)


def test_obv_change_agrees_with_the_running_total_of_the_sheet():
    total = sheet("Obv")["obv"]
    bars = daily()
    want = np.append(np.full(20, np.nan), total[20:] - total[:-20])
    np.testing.assert_array_equal(ta.obv_change(bars["close"], bars["volume"], 20), want)
