"""Examine stored features: sessions without them, and values out of range."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from psycopg import sql

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.features import COLUMNS, Column
from backfill_assets.domain.timeframes import Timeframe

SQL = statements("backfill_assets.adapters.store", "feature_quality.sql")

ROUNDING = 1e-9
"""How far a value may exceed its bounds: ten thousand times the rounding error of a number up to 100."""

_BY_NAME = {column.name: column for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class FeatureSession:
    """A session of a series with bars: their number, how many of them have a feature row, the first and the last (UTC).

    `filled_by` is the fallback whose bars they are, None if they are the vendor's.
    """

    symbol: str
    timeframe: str
    session: date
    bars: int
    rows: int
    first: datetime
    last: datetime
    filled_by: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every bar has a feature row."""
        return self.rows >= self.bars


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """Values of one column of one series outside its bounds: their number, the first bar (UTC), and the worst value."""

    symbol: str
    timeframe: str
    column: str
    rows: int
    first: datetime
    worst: float

    def merged(self, later: OutOfRange) -> OutOfRange:
        """Combine with a later range of the same column of the same series."""
        worst = max(self, later, key=OutOfRange._distance).worst
        return replace(self, rows=self.rows + later.rows, worst=worst)

    def _distance(self) -> float:
        """Return how far the worst value is outside; infinity if it is not a finite number."""
        if not math.isfinite(self.worst):
            return math.inf
        least, greatest = limits(_BY_NAME[self.column])
        return max(least - self.worst, self.worst - greatest)


class FeatureQuality(Store):
    """Examines market_features."""

    def sessions(self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange) -> list[FeatureSession]:
        """Return all sessions within the days that have bars, ascending by symbol, timeframe and day."""
        values = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "start": days.start,
            "end": days.end,
        }
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["sessions"], values).fetchall())
        return [FeatureSession(*row) for row in rows]

    def out_of_range(
        self, symbols: Iterable[str], timeframe: Timeframe, start: datetime, end: datetime
    ) -> list[OutOfRange]:
        """Return values outside their column's bounds, or not finite, of bars between two instants (end excluded)."""
        values = {"symbols": list(symbols), "timeframe": timeframe.name, "start": start, "end": end}
        query = _out_of_range()
        rows: list[Any] = self._transaction(lambda c: c.execute(query, values).fetchall())
        return [
            OutOfRange(symbol, of, column, count, first.astimezone(UTC), worst)
            for symbol, of, column, count, first, worst in rows
        ]


@cache
def _out_of_range() -> sql.Composed:
    """Return the query over the catalog's columns. Their names are quoted as identifiers; its parameters are bound later."""
    template = sql.SQL(SQL["out_of_range"])
    return template.format(values=_listed(COLUMNS), broken=_broken(COLUMNS))


def _listed(columns: Sequence[Column]) -> sql.Composed:
    row = sql.SQL("({}, {}, {}::float8, {}::float8)")
    return sql.SQL(", ").join(
        row.format(sql.Literal(c.name), sql.Identifier("f", c.name), *map(sql.Literal, limits(c))) for c in columns
    )


def _broken(columns: Sequence[Column]) -> sql.Composed:
    """Return the condition that any value is out of range. NULL is allowed; NaN is greater than everything in PostgreSQL."""
    test = sql.SQL("not {} between {}::float8 and {}::float8")
    return sql.SQL(" or ").join(test.format(sql.Identifier("f", c.name), *map(sql.Literal, limits(c))) for c in columns)


def limits(column: Column) -> tuple[float, float]:
    """Return the least and the greatest allowed value of a column: any finite number if it has no bound."""
    least, greatest = column.bounds
    return (
        -sys.float_info.max if least is None else least - ROUNDING,
        sys.float_info.max if greatest is None else greatest + ROUNDING,
    )
