"""Bars that cannot be right, looked for where they are stored.

What lives here: the query, and the names of its rules. What does not: what is done about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import multirange
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.sessions import Calendar, day_starts
from backfill_assets.domain.timeframes import DAY_1, WEEK_1, Timeframe

SQL = statements("backfill_assets.adapters.store", "quality.sql")

RULES = {
    1: "high lies below open, close or low",
    2: "low lies above open or close",
    3: "a price is not positive and finite",
    4: "volume is negative or not finite",
    5: "the timestamp is not on the timeframe's grid",
    6: "the bar lies outside its session's hours",
}
"""By the numbers that the statement gives them."""


@dataclass(frozen=True, slots=True)
class InvalidBars:
    """Bars of one series that break one rule: how many, and the start of the first (UTC)."""

    symbol: str
    timeframe: str
    rule: str
    bars: int
    first: datetime


@dataclass(frozen=True, slots=True)
class Examined:
    """What was looked at, on which days (disjoint, ascending): bars by timeframe name, and those that are invalid."""

    days: tuple[DayRange, ...]
    bars: dict[str, int]
    invalid: tuple[InvalidBars, ...]

    def with_(self, later: Examined) -> Examined:
        """Both together, where no bar is in both and `later` looked at later days."""
        bars = {t: self.bars.get(t, 0) + later.bars.get(t, 0) for t in {**self.bars, **later.bars}}
        known: dict[tuple[str, str, str], InvalidBars] = {}
        for found in (*self.invalid, *later.invalid):
            key = (found.symbol, found.timeframe, found.rule)
            known[key] = replace(known[key], bars=known[key].bars + found.bars) if key in known else found
        return Examined((*self.days, *later.days), bars, tuple(known[key] for key in sorted(known)))


class QualityStore(Store):
    """Examines stored bars."""

    def examine(
        self, symbols: Sequence[str], timeframes: Sequence[Timeframe], calendar: Calendar, days: DayRange
    ) -> Examined:
        """The bars of the days (of the market's zone) that break a rule; of weeks, those that the days lie in."""
        hours = calendar.hours
        weeks_start, start, end = day_starts([week_start(days.start), days.start, days.end + ONE_DAY], hours.zone)
        intraday = [t for t in timeframes if t not in {DAY_1, WEEK_1}]
        values = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "intraday": [t.name for t in intraday],
            "lengths": [timedelta(seconds=t.seconds) for t in intraday],
            "zone": hours.zone.key,
            "weeks_start": instant(weeks_start),
            "starts": instant(start),
            "ends": instant(end),
            "sessions": multirange(calendar.within(days)),
            "opens": _since_midnight(hours.opens),
            "closes": _since_midnight(hours.closes) if hours.closes else timedelta(days=1),
        }
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["invalid_bars"], values).fetchall())
        counted: list[Any] = self._transaction(lambda c: c.execute(SQL["count_bars"], values).fetchall())
        invalid = tuple(
            InvalidBars(symbol, timeframe, RULES[rule], bars, first.astimezone(UTC))
            for symbol, timeframe, rule, bars, first in rows
        )
        return Examined((days,), dict(counted), invalid)


def _since_midnight(at: time) -> timedelta:
    return timedelta(hours=at.hour, minutes=at.minute)
