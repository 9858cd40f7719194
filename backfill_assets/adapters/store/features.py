"""Features: what is to be computed, the bars for it, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
"""Rows that one transaction computes: with their window and their features it holds 11 MB, however much is to be done.
Half as many are slower, twice as many not faster."""

_COPY_ROWS = (
    'copy market_features (symbol, timeframe, "timestamp", '
    + ", ".join(column.name for column in COLUMNS)
    + ") from stdin (format binary)"
)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FeatureSeries:
    """One symbol's one timeframe, with the zone of its market."""

    symbol: str
    timeframe: Timeframe
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Window:
    """The bars that one piece of work needs.

    bars    of the series, those before the first row included, oldest first
    first   the row from which on features are wanted
    daily   all daily bars of the symbol up to the end of the last row, read only where weeks need them
    splits  those of the symbol that act, ascending; as of the instant of the marks: a split that made one is among them
    """

    bars: Bars
    first: int
    daily: Callable[[], Bars]
    splits: Sequence[SplitRatio] = ()


class UnusableBars(StoreError):
    """A stored bar has a price or a volume that no feature can be computed from."""


@dataclass(frozen=True, slots=True)
class StaleSeries:
    """A series with stale rows: start of the first and the last such bar, since when that is known, the newest mark."""

    symbol: str
    timeframe: str
    first: datetime
    last: datetime
    since: datetime
    newest_mark: int


@dataclass(frozen=True, slots=True)
class Covered:
    """How many bars of a series were looked at, how many have no row of features, and the first of those (UTC)."""

    symbol: str
    timeframe: str
    bars: int
    bare: int
    first: datetime | None

    def with_(self, later: Covered) -> Covered:
        """Both together: the same series, where `later` looked at later bars."""
        return replace(self, bars=self.bars + later.bars, bare=self.bare + later.bare, first=self.first or later.first)


class FeatureStore(Store):
    """market_features, and the marks that say what of it is stale."""

    def compute_some(
        self, series: FeatureSeries, start: datetime, end: datetime, work: Callable[[Window], Float]
    ) -> int | None:
        """Compute the first stale rows between two instants (end excluded), MOST_ROWS at the most, in one transaction.

        `work` gives float64 (rows, len(COLUMNS)) for the rows from `first` on. How many rows were written; None where
        nothing is stale there. Whoever else computes the series waits for the end. Raises UnusableBars.
        """

        def transaction(connection: psycopg.Connection[Row]) -> int | None:
            return _Piece(connection, series).computed(start, end, work)

        return self._transaction(transaction)

    def mark(self, series: FeatureSeries, start: datetime, end: datetime) -> None:
        """Have all rows between two instants computed again."""
        values = {"symbol": series.symbol, "timeframe": series.timeframe.name, "start": start, "end": end}
        self._transaction(lambda c: c.execute(SQL["mark_all"], values))

    def stale(self, symbols: Iterable[str], timeframes: Iterable[Timeframe]) -> list[StaleSeries]:
        """The series that have bars whose features are stale or were never computed."""
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes]}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["stale_series"], values).fetchall())
        return [StaleSeries(*row) for row in rows]

    def covered(
        self, symbols: Iterable[str], timeframes: Iterable[Timeframe], start: datetime, end: datetime
    ) -> list[Covered]:
        """Whether every bar between two instants (end excluded) has its row, by series that have bars there."""
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes], "start": start, "end": end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["uncovered"], values).fetchall())
        return [Covered(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is stale of a series within bounds, what says so, and the splits that act."""

    ids: Sequence[int]
    stale: Sequence[Range[datetime]]
    splits: Sequence[SplitRatio]


@dataclass(frozen=True, slots=True)
class _Piece:
    connection: psycopg.Connection[Row]
    series: FeatureSeries

    def computed(self, start: datetime, end: datetime, work: Callable[[Window], Float]) -> int | None:
        self.connection.execute(SQL["lock_features"], self._named())
        marks = self._marks(start, end)
        if not marks.stale:
            return None
        # Of the first stretch alone: between two there may be years of rows that are as they should be.
        begin, until = marks.stale[0].lower or start, marks.stale[0].upper or end
        last, rows, block = self._one(
            "window",
            start=begin,
            end=until,
            most=MOST_ROWS,
            look_back=look_back(self.series.timeframe),
            zone=self.series.zone.key,
        )
        # A stretch that was not exhausted goes on right after its last row.
        done = last + _TICK if rows == MOST_ROWS else until
        if not rows:
            self._clear(marks.ids, begin, done)
            return 0
        bars = self._usable(self.series.timeframe, block)
        window = Window(bars, len(bars) - rows, lambda: self._daily(last), marks.splits)
        values = work(window)
        self._clear(marks.ids, begin, done)
        self._write(bars.take(slice(window.first, None)), values)
        return int(rows)

    def _marks(self, start: datetime, end: datetime) -> _Marks:
        ids, stale, *splits = self._one("marks", start=start, end=end)
        rows = zip(*(column or () for column in splits), strict=True)
        return _Marks(ids or (), stale or (), [SplitRatio(*row) for row in rows])

    def _daily(self, last: datetime) -> Bars:
        # An hour more or less where clocks change: what of the next week may come with it, makes a week that is not stored.
        end = last + timedelta(seconds=WEEK_1.seconds)
        (block,) = self._one("bars_until", timeframe=DAY_1.name, end=end)
        return self._usable(DAY_1, block or b"")

    def _usable(self, timeframe: Timeframe, block: bytes) -> Bars:
        bars = bars_of_block(block)
        usable = np.isfinite([bars.open, bars.high, bars.low, bars.close, bars.volume]).all(axis=0)
        if not usable.all():
            stamp = instant(bars.timestamp[int(np.argmin(usable))])
            raise UnusableBars(
                f"{self.series.symbol} {timeframe}: the bar of {stamp:%Y-%m-%d %H:%M} UTC has a price or a volume that is no "
                f"finite number; correct it in market_data"
            )
        return bars

    def _clear(self, ids: Sequence[int], begin: datetime, end: datetime) -> None:
        self.connection.execute(SQL["clear"], self._named(ids=ids, **{"from": begin, "to": end}))

    def _write(self, bars: Bars, values: Float) -> None:
        texts = (self.series.symbol, self.series.timeframe.name)
        with self.connection.cursor() as cursor, cursor.copy(_COPY_ROWS) as copy:
            for block in feature_blocks(texts, bars.timestamp, values):
                copy.write(block)

    def _one(self, statement: str, **values: object) -> Any:
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(SQL[statement], self._named(**values)).fetchone()

    def _named(self, **values: object) -> dict[str, Any]:
        return {"symbol": self.series.symbol, "timeframe": self.series.timeframe.name, **values}
