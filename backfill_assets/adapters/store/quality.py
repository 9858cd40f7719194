"""Find invalid bars and implausible prices in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.plausibility import (
    NEAR,
    OUTSIDE_BARS,
    OUTSIDE_MARGIN,
    OUTSIDE_SHARE,
    Outlier,
    PriceRange,
    implausible,
    least_margin,
    margin,
)
from backfill_assets.domain.sessions import Calendar, day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, WEEK_1, Timeframe

SQL = statements("backfill_assets.adapters.store", "quality.sql")

RULES = {
    1: "high is below open, close or low",
    2: "low is above open or close",
    4: "a price is not positive and finite",
    8: "volume is negative or not finite",
    16: "the timestamp is not on the timeframe's grid",
    32: "the bar is outside its session's hours",
}
"""By the bits of the statement."""


@dataclass(frozen=True, slots=True)
class InvalidBars:
    """Bars of one series that break one rule: their number, and the start of the first (UTC)."""

    symbol: str
    timeframe: str
    rule: str
    bars: int
    first: datetime


@dataclass(frozen=True, slots=True)
class Examination:
    """Examination days (disjoint, ascending), number of bars by timeframe name, and invalid bars."""

    days: tuple[DayRange, ...]
    bars: dict[str, int]
    invalid: tuple[InvalidBars, ...]

    def merged(self, later: Examination) -> Examination:
        """Merge with an examination of later days that has no bar in common."""
        bars = {t: self.bars.get(t, 0) + later.bars.get(t, 0) for t in {**self.bars, **later.bars}}
        return Examination((*self.days, *later.days), bars, _merged((*self.invalid, *later.invalid)))


class QualityStore(Store):
    """Examines stored bars."""

    def examine(
        self, symbols: Sequence[str], timeframes: Sequence[Timeframe], calendar: Calendar, days: DayRange
    ) -> Examination:
        """Examine the bars of the days (in the market's zone), and the weekly bars that contain them."""
        zone = calendar.hours.zone
        bars: dict[str, int] = {}
        invalid: list[InvalidBars] = []
        for timeframe in timeframes:
            first = week_start(days.start) if timeframe == WEEK_1 else days.start
            span = [instant(t) for t in day_starts([first, days.end + ONE_DAY], zone)]
            values = {
                "symbols": list(symbols),
                "timeframe": timeframe.name,
                "length": timedelta(seconds=timeframe.seconds),
                "zone": zone.key,
                "start": span[0],
                "end": span[1],
                "within": span if timeframe == WEEK_1 else _start_ranges(timeframe, calendar, days),
            }
            for symbol, broken, count, at in self._rows(values):
                bars[timeframe.name] = bars.get(timeframe.name, 0) + count
                invalid += (
                    InvalidBars(symbol, timeframe.name, rule, count, at.astimezone(UTC))
                    for bit, rule in RULES.items()
                    if broken & bit
                )
        return Examination((days,), bars, _merged(invalid))

    def outliers(
        self, symbols: Sequence[str], timeframe: Timeframe, calendar: Calendar, days: DayRange
    ) -> list[Outlier]:
        """Return the prices of the days (in the market's zone) that are far from all around them, by symbol and time.

        Of a session whose minutes are not those of its daily bar, this is the first close outside the day's range.
        """
        zone = calendar.hours.zone
        start, end = (instant(t) for t in day_starts([days.start, days.end + ONE_DAY], zone))
        values = {
            "symbols": list(symbols),
            "timeframe": timeframe.name,
            "zone": zone.key,
            "start": start,
            "end": end,
            "factor": least_margin(timeframe),
            "near": NEAR,
        }
        found: list[Outlier] = []
        for symbol, at, low, high, *around in self._rows(values, "far_prices"):
            near, day = (PriceRange(*around[i : i + 2]) for i in (0, 2))
            factor = margin(calendar.kind, timeframe, at)
            far, usual = implausible(PriceRange(low, high), near, None if around[2] is None else day, factor)
            found += (
                Outlier(symbol, timeframe.name, at.astimezone(UTC), value, usual.lowest, usual.highest) for value in far
            )
        if timeframe == MINUTE_1:
            found = sorted({*found, *self._outside_days(symbols, calendar, days)})
        return found

    def _outside_days(self, symbols: Sequence[str], calendar: Calendar, days: DayRange) -> list[Outlier]:
        sessions = calendar.within(days)
        hours = [calendar.regular_hours(s) for s in sessions]
        values = {
            "symbols": list(symbols),
            "days": [instant(t) for t in day_starts(sessions, calendar.hours.zone)],
            "opens": [opens for opens, _ in hours],
            "closes": [closes for _, closes in hours],
            "factor": OUTSIDE_MARGIN,
            "share": OUTSIDE_SHARE,
            "bars": OUTSIDE_BARS,
        }
        return [
            Outlier(symbol, MINUTE_1.name, at.astimezone(UTC), *prices)
            for symbol, at, *prices in self._rows(values, "minutes_outside_day")
        ]

    def _rows(self, values: Mapping[str, Any], statement: str = "examined_bars") -> list[Any]:
        return self._transaction(lambda c: c.execute(SQL[statement], values).fetchall())


def _merged(invalid: Iterable[InvalidBars]) -> tuple[InvalidBars, ...]:
    """Merge entries of the same series and rule, sorted by these."""
    known: dict[tuple[str, str, str], InvalidBars] = {}
    for one in invalid:
        key = (one.symbol, one.timeframe, one.rule)
        other = known.get(key, replace(one, bars=0))
        known[key] = replace(one, bars=one.bars + other.bars, first=min(one.first, other.first))
    rules = list(RULES.values())
    return tuple(sorted(known.values(), key=lambda i: (i.symbol, i.timeframe, rules.index(i.rule))))


def _start_ranges(timeframe: Timeframe, calendar: Calendar, days: DayRange) -> list[datetime]:
    """Return where bars of the sessions may start, ascending: from each time (UTC) of even index up to the next.

    Bars start within the day, and intraday bars overlap the session's hours.
    """
    hours = calendar.hours
    found: list[datetime] = []
    for session in calendar.within(days):
        begin, end = (datetime.combine(d, time(0), hours.zone).astimezone(UTC) for d in (session, session + ONE_DAY))
        if timeframe != DAY_1:
            opens = datetime.combine(session, hours.opens, hours.zone).astimezone(UTC)
            begin = max(begin, opens - timedelta(seconds=timeframe.seconds) + timedelta.resolution)
            end = hours.ends_at(session)
        found += (begin, end)
    return found
