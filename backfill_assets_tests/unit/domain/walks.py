"""Synthetic series for the tests of features."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import Bars
from backfill_assets.domain.timeframes import DAY_1

NEW_YORK = ZoneInfo("America/New_York")
DAY = 86_400_000


def stock_stamps(timeframe, rows, start=datetime(2024, 1, 2, tzinfo=NEW_YORK)):
    """Return starts of bars from 04:00 to 20:00 New York on weekdays; midnights of weekdays for days."""
    midnight, stamps = start, []
    while len(stamps) < rows:
        if midnight.weekday() < 5:
            opens = int(midnight.replace(hour=0 if timeframe == DAY_1 else 4).timestamp()) * 1000
            span = 1 if timeframe == DAY_1 else 16 * 3_600_000
            stamps.extend(range(opens, opens + span, timeframe.seconds * 1000))
        midnight = datetime.fromtimestamp(midnight.timestamp() + 30 * 3600, NEW_YORK).replace(hour=0)
    return np.array(stamps[:rows], dtype=np.int64)


def walk(stamps, seed=0, volatility=1e-3, tick=0.01, still=0.0, untraded=0.0):
    """Return a random walk from 100 on a grid of ticks. `still` bars have no range and no move, `untraded` ones no volume."""
    chance, n = np.random.default_rng(seed), len(stamps)
    moves = chance.random(n) >= still
    close = 100 * np.exp(np.cumsum(chance.normal(0, volatility, n) * moves))
    open_ = np.append(100.0, close[:-1])
    up, down = (1 + moves * np.abs(chance.normal(0, volatility, n)) for _ in range(2))
    high, low = np.maximum(open_, close) * up, np.minimum(open_, close) / down
    open_, high, low, close = (np.maximum(np.round(x / tick), 1) * tick for x in (open_, high, low, close))
    volume = np.where(chance.random(n) < untraded, 0.0, chance.integers(1, 100_000, n).astype(np.float64))
    return Bars(stamps, open_, high, low, close, volume, (high + low) / 2, np.ones(n, np.int64))


def same(got, want, rtol=1e-12):
    np.testing.assert_allclose(got, np.array(want, dtype=np.float64), rtol=rtol, atol=1e-15)


def column(*values):
    return np.array(values, dtype=np.float64)


def minutes(rows, start=datetime(2024, 1, 2, tzinfo=UTC)):
    """Return starts of consecutive minutes."""
    return int(start.timestamp()) * 1000 + 60_000 * np.arange(rows, dtype=np.int64)


def thinned(bars, share, seed=0):
    """Remove a random share of the bars, like minutes without a trade."""
    return bars.take(np.random.default_rng(seed).random(len(bars)) >= share)


def in_shares(bars, factor):
    """Convert bars to other shares: prices times the factor, volume divided by it."""
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, volume=bars.volume / factor, **prices)
