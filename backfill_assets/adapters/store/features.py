"""Feature rows: what of them is stale, the bars that it is computed from, and the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
from psycopg.types.range import Range

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.copy_format import bars_of_block, feature_blocks
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.bars import Bars, Float
from backfill_assets.domain.errors import StoreError
from backfill_assets.domain.features import COLUMNS, look_back
from backfill_assets.domain.timeframes import DAY_1, WEEK_1, Timeframe

SQL = statements("backfill_assets.adapters.store", "features.sql")

MOST_ROWS = 20_000
"""Rows that one transaction computes: with their window and their features they take 11 MB, however much is stale. Half as
many are slower, twice as many are not faster."""

_COPY_ROWS = (
    'copy market_features (symbol, timeframe, "timestamp", '
    + ", ".join(column.name for column in COLUMNS)
    + ") from stdin (format binary)"
)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FeatureSeries:
    """One timeframe of one symbol, with the zone of its market."""

    symbol: str
    timeframe: Timeframe
    zone: ZoneInfo


class UnusableBars(StoreError):
    """A stored bar has a price or a volume that no feature can be computed from."""


@dataclass(frozen=True, slots=True)
class StaleSeries:
    """A series with stale rows: starts of the first and the last such bar, since when it is stale, and its newest mark."""

    symbol: str
    timeframe: str
    first: datetime
    last: datetime
    since: datetime
    newest_mark: int


@dataclass(frozen=True, slots=True)
class Covered:
    """How many bars of a series were examined, how many of them have no feature row, and the first of those (UTC)."""

    symbol: str
    timeframe: str
    bars: int
    bare: int
    first: datetime | None

    def merged(self, later: Covered) -> Covered:
        """Combine with a later range of the same series."""
        return replace(self, bars=self.bars + later.bars, bare=self.bare + later.bare, first=self.first or later.first)


class FeatureStore(Store):
    """market_features, and the marks that record what of it is stale."""

    def window(self, series: FeatureSeries, start: datetime, end: datetime) -> Window | None:
        """Read the window of the first stale rows of a series, at most MOST_ROWS.

        None if nothing is stale between the two instants (end excluded). Raises UnusableBars.
        """
        return self._transaction(lambda c: _Rows(c, series).window(start, end))

    def write(self, series: FeatureSeries, window: Window, values: Float) -> bool:
        """Replace the rows of a window and clear its marks; `values` is float64 (rows, len(COLUMNS)).

        Return False, and write nothing, if one of its marks is gone: another process has computed these rows since they were
        read, maybe from newer bars. Bars that changed meanwhile have new marks, which stay.
        """
        return self._transaction(lambda c: _Rows(c, series).write(window, values))

    def mark(self, series: FeatureSeries, start: datetime, end: datetime) -> None:
        """Mark all rows between two instants (end excluded) as stale."""
        values = {"symbol": series.symbol, "timeframe": series.timeframe.name, "start": start, "end": end}
        self._transaction(lambda c: c.execute(SQL["mark_all"], values))

    def stale(self, symbols: Iterable[str], timeframes: Iterable[Timeframe]) -> list[StaleSeries]:
        """Return the series that have bars whose features are stale or were never computed."""
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes]}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["stale_series"], values).fetchall())
        return [StaleSeries(*row) for row in rows]

    def covered(
        self, symbols: Iterable[str], timeframes: Iterable[Timeframe], start: datetime, end: datetime
    ) -> list[Covered]:
        """Count the bars between two instants (end excluded) and those without a feature row, by series that has bars."""
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes], "start": start, "end": end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["uncovered"], values).fetchall())
        return [Covered(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Rows:
    """One series on one connection."""

    connection: psycopg.Connection[Row]
    series: FeatureSeries

    def window(self, start: datetime, end: datetime) -> Window | None:
        ids, stale, *columns = self.one("marks", start=start, end=end)
        if not stale:
            return None
        # Only the first range: between two of them there may be years of rows that are up to date.
        begin, until = stale[0].lower or start, stale[0].upper or end
        last, count, block = self.one(
            "window",
            start=begin,
            end=until,
            most=MOST_ROWS,
            look_back=look_back(self.series.timeframe),
            zone=self.series.zone.key,
        )
        bars = self.usable(self.series.timeframe, block or b"")
        splits = [SplitRatio(*row) for row in zip(*(column or () for column in columns), strict=True)]
        days = self.days(last) if last and splits and self.series.timeframe == WEEK_1 else None
        # A range with more rows continues right after the last one.
        replaced = Range(begin, last + _TICK if count == MOST_ROWS else until)
        return Window(bars, len(bars) - count, splits, days, marks=ids, replaced=replaced)

    def days(self, last: datetime) -> Bars:
        # An hour more or less where clocks change: bars of the next week, if any, make a week that is not stored.
        (block,) = self.one("bars_until", timeframe=DAY_1.name, end=last + timedelta(seconds=WEEK_1.seconds))
        return self.usable(DAY_1, block or b"")

    def write(self, window: Window, values: Float) -> bool:
        self.connection.execute(SQL["lock_features"], self.values())
        if self.one("marks_left", ids=window.marks) != (len(window.marks),):
            return False
        bounds = {"ids": window.marks, "from": window.replaced.lower, "to": window.replaced.upper}
        self.connection.execute(SQL["clear"], self.values(**bounds))
        if window.rows:
            texts, stamps = (self.series.symbol, self.series.timeframe.name), window.bars.timestamp[window.first :]
            with self.connection.cursor() as cursor, cursor.copy(_COPY_ROWS) as copy:
                for block in feature_blocks(texts, stamps, values):
                    copy.write(block)
        return True

    def usable(self, timeframe: Timeframe, block: bytes) -> Bars:
        bars = bars_of_block(block)
        usable = np.isfinite([bars.open, bars.high, bars.low, bars.close, bars.volume]).all(axis=0)
        if not usable.all():
            stamp = instant(bars.timestamp[int(np.argmin(usable))])
            raise UnusableBars(
                f"{self.series.symbol} {timeframe}: the bar of {stamp:%Y-%m-%d %H:%M} UTC has a price or a volume that is "
                f"not a finite number; correct it in market_data"
            )
        return bars

    def one(self, statement: str, **values: object) -> Any:
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(SQL[statement], self.values(**values)).fetchone()

    def values(self, **values: object) -> dict[str, Any]:
        return {"symbol": self.series.symbol, "timeframe": self.series.timeframe.name, **values}


@dataclass(frozen=True, slots=True)
class Window:
    """The bars that the first stale rows of a series are computed from.

    bars      of the series, including those before the first row, oldest first
    first     the row from which on features are to be computed
    splits    of the symbol, without withdrawn ones, ascending; read with the marks, so they include a split that made one
    days      of weeks, if there are splits: all daily bars of the symbol up to the end of the last row, else None
    marks     the ids of all marks of the series
    replaced  the range of the rows
    """

    bars: Bars
    first: int
    splits: Sequence[SplitRatio]
    days: Bars | None
    marks: Sequence[int]
    replaced: Range[datetime]

    @property
    def rows(self) -> int:
        """How many rows are to be computed; 0 if the marked bars do not exist."""
        return len(self.bars) - self.first
