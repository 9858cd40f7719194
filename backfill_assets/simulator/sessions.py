"""Trading days and hours of the two markets, independent of the package's own calendars.

Sources: trading hours 09:30-16:00 and early closes at 13:00 New York, nyse.com/markets/hours-calendars; extended hours
04:00-20:00 in the vendor's aggregates, and 17:00 on early closes, massive.com/knowledge-base.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Market = Literal["stocks", "crypto"]

DAY_MS = 86_400_000
MINUTE_MS = 60_000
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = date(1970, 1, 1)

_FIRST, _LAST = "2003-01-02", "2039-12-30"


def market_of(ticker: str) -> Market:
    """Return the market of a ticker: `X:…` is a coin, everything else a US stock."""
    return "crypto" if ticker.startswith("X:") else "stocks"


def day_number(day: date) -> int:
    """Return the number of days since 1970-01-01."""
    return (day - EPOCH).days


def to_date(day: int) -> date:
    """Return the date of a day number."""
    return EPOCH + timedelta(days=day)


@lru_cache(maxsize=65_536)
def midnight(market: Market, day: int) -> int:
    """Return 00:00 of a day in New York or UTC, milliseconds since 1970 UTC."""
    if market == "crypto":
        return day * DAY_MS
    d = to_date(day)
    return int(datetime(d.year, d.month, d.day, tzinfo=NEW_YORK).timestamp()) * 1000


def day_at(market: Market, ms: int) -> int:
    """Return the market's day of a time (milliseconds since 1970 UTC)."""
    zone = UTC if market == "crypto" else NEW_YORK
    return day_number(datetime.fromtimestamp(ms / 1000, zone).date())


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Trading days of one market as columns of length n; clock minutes count from the market's midnight.

    day          int64 (n,)   day number
    start        int64 (n,)   milliseconds UTC of that day's midnight in the market's zone
    first, span  int          first clock minute of trading and how many minutes follow: 240 and 960, or 0 and 1440
    last         int64 (n,)   clock minute where trading ends: 1200, 1020 on a half day, 1440
    opens        int64 (n,)   clock minute of the regular open: 570, or 0
    closes       int64 (n,)   clock minute of the regular close: 960, 780 on a half day, 1440
    """

    market: Market
    day: Int
    start: Int
    first: int
    span: int
    last: Int
    opens: Int
    closes: Int

    def __len__(self) -> int:
        return len(self.day)

    def between(self, first: int, last: int) -> Days:
        """Select the days from `first` to `last`, both included."""
        i = int(np.searchsorted(self.day, first, "left"))
        return self.rows(slice(i, max(i, int(np.searchsorted(self.day, last, "right")))))

    def rows(self, rows: slice | NDArray[np.bool_]) -> Days:
        """Select days by a slice or a mask."""
        return replace(
            self, **{name: getattr(self, name)[rows] for name in ("day", "start", "last", "opens", "closes")}
        )


@cache
def trading_days(market: Market) -> Days:
    """Return the trading days of a market from 2003 to 2039: New York's sessions, or all UTC days."""
    if market == "crypto":
        day = np.arange(day_number(date.fromisoformat(_FIRST)), day_number(date.fromisoformat(_LAST)) + 1)
        same = np.full(len(day), 1440)
        return Days(market, day, day * DAY_MS, 0, 1440, same, same * 0, same)

    from exchange_calendars import get_calendar  # noqa: PLC0415 - imports pandas, which coins do not need

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 uses deprecated names of pandas
        calendar = get_calendar("XNYS", start=_FIRST, end=_LAST)
    day = calendar.sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
    half = np.isin(day, calendar.early_closes.to_numpy().astype("datetime64[D]").astype(np.int64))
    start = np.array([midnight(market, int(d)) for d in day], dtype=np.int64)
    return Days(
        market, day, start, 240, 960, np.where(half, 1020, 1200), np.full(len(day), 570), np.where(half, 780, 960)
    )
