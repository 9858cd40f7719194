"""A window of bars with values that several features share."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain import indicators
from backfill_assets.domain.bars import Bars, Float, Int
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import day_starts


class Window:
    """Consecutive bars of one series in the same units, oldest first. `zone` is the market's."""

    def __init__(self, bars: Bars, zone: ZoneInfo) -> None:
        self.high, self.low, self.close, self.volume = bars.high, bars.low, bars.close, bars.volume
        self._timestamps, self._zone = bars.timestamp, zone
        self._smas: dict[int, Float] = {}
        self._emas: dict[int, Float] = {}

    @cached_property
    def session_starts(self) -> Int:
        """The first row of each session, a day in the market's zone: int64 (sessions,)."""
        return session_starts(self._timestamps, self._zone)

    @cached_property
    def log_return(self) -> Float:
        """ln(close / previous close): (n,)."""
        return indicators.log_return(self.close)

    @cached_property
    def true_range(self) -> Float:
        """Wilder's true range: (n,)."""
        return indicators.true_range(self.high, self.low, self.close)

    @cached_property
    def atr_14(self) -> Float:
        """Average true range over 14 bars: (n,)."""
        return indicators.atr(self.true_range, 14)

    @cached_property
    def williams_r_14(self) -> Float:
        """Williams %R over 14 bars: (n,)."""
        return indicators.williams_r(self.high, self.low, self.close, 14)

    def sma(self, n: int) -> Float:
        """Mean of the last n closes: (rows,)."""
        if n not in self._smas:
            self._smas[n] = indicators.sma(self.close, n)
        return self._smas[n]

    def ema(self, n: int) -> Float:
        """Exponential average of the closes: (rows,)."""
        if n not in self._emas:
            self._emas[n] = indicators.ema(self.close, n)
        return self._emas[n]


def session_starts(timestamps: Int, zone: ZoneInfo) -> Int:
    """Return the first row of each day in the zone. Timestamps are milliseconds since the epoch UTC, ascending."""
    if not len(timestamps):
        return np.empty(0, np.int64)
    first, last = (datetime.fromtimestamp(int(ms) / 1000, UTC).astimezone(zone).year for ms in timestamps[[0, -1]])
    midnights = np.concatenate([_midnights(year, zone) for year in range(first, last + 1)])
    day = np.searchsorted(midnights, timestamps, side="right")
    return np.flatnonzero(np.append(True, day[1:] != day[:-1]))


@lru_cache(maxsize=256)
def _midnights(year: int, zone: ZoneInfo) -> Int:
    return day_starts(list(DayRange(date(year, 1, 1), date(year, 12, 31))), zone)
