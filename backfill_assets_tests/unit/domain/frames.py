"""Bar frames for tests."""

from datetime import UTC, datetime

import numpy as np

from backfill_assets.domain.bars import NO_TRADES, Bars

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume", "vwap", "trades")


def frame(stamps, marks=None):
    """Bars that start at these milliseconds. Each row has its mark in every other column, so that mixed rows are noticed."""
    marks = list(range(len(stamps))) if marks is None else marks
    assert len(marks) == len(stamps)
    m = np.array(marks, dtype=np.float64)
    t = np.array(stamps, dtype=np.int64)
    vwap = np.where(m % 5 == 4, np.nan, m + 0.5)
    return Bars(t, m, m + 1, m - 1, m, m * 10, vwap, np.where(m % 5 == 4, NO_TRADES, m).astype(np.int64))


def rows(bars):
    """Return the rows as pairs of (start, mark); fails if the columns of a row do not match."""
    pairs = [(int(t), int(m)) for t, m in zip(bars.timestamp, bars.close, strict=True)]
    assert_same(bars, frame([t for t, _ in pairs], [m for _, m in pairs]))
    return pairs


def assert_same(one, other):
    for name in COLUMNS:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)


def ms(*moment, zone=UTC):
    """Convert a local time to milliseconds since the epoch."""
    return int(datetime(*moment, tzinfo=zone).timestamp()) * 1000
