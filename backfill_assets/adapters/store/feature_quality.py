"""Stored features looked at: which sessions have theirs, and values that cannot be."""

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
"""So far a value may lie beyond its bounds: ten thousand times what rounding does to a number up to 100."""

_BY_NAME = {column.name: column for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class FeatureSession:
    """A session of a series that has bars: how many, how many of them have a row, the first and the last bar (UTC)."""

    symbol: str
    timeframe: str
    session: date
    bars: int
    rows: int
    first: datetime
    last: datetime

    @property
    def whole(self) -> bool:
        """Whether every bar has its row."""
        return self.rows >= self.bars


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """Values of one column of one series outside its bounds: how many, the first bar (UTC), and the worst value."""

    symbol: str
    timeframe: str
    column: str
    rows: int
    first: datetime
    worst: float

    def with_(self, later: OutOfRange) -> OutOfRange:
        """Both together: the same column of the same series, where `later` looked at later bars."""
        worst = max(self, later, key=OutOfRange._distance).worst
        return replace(self, rows=self.rows + later.rows, worst=worst)

    def _distance(self) -> float:
        """How far the worst value lies outside; what is no finite number, farther than all others."""
        if not math.isfinite(self.worst):
            return math.inf
        least, greatest = limits(_BY_NAME[self.column])
        return max(least - self.worst, self.worst - greatest)


class FeatureQuality(Store):
    """Looks at market_features."""

    def sessions(self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange) -> list[FeatureSession]:
        """Every session among the days that has bars, ascending by symbol, timeframe and day."""
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
        """What lies outside its column's bounds, or is no finite number, of bars between two instants (end excluded)."""
        values = {"symbols": list(symbols), "timeframe": timeframe.name, "start": start, "end": end}
        query = _out_of_range()
        rows: list[Any] = self._transaction(lambda c: c.execute(query, values).fetchall())
        return [
            OutOfRange(symbol, of, column, count, first.astimezone(UTC), worst)
            for symbol, of, column, count, first, worst in rows
        ]


@cache
def _out_of_range() -> sql.Composed:
    """The query over the catalog's columns. Their names are quoted as identifiers; what is asked for is bound later."""
    template = sql.SQL(SQL["out_of_range"])
    return template.format(values=_listed(COLUMNS), broken=_broken(COLUMNS))


def _listed(columns: Sequence[Column]) -> sql.Composed:
    row = sql.SQL("({}, {}, {}::float8, {}::float8)")
    return sql.SQL(", ").join(
        row.format(sql.Literal(c.name), sql.Identifier("f", c.name), *map(sql.Literal, limits(c))) for c in columns
    )


def _broken(columns: Sequence[Column]) -> sql.Composed:
    """Null where a value is null: that breaks nothing. NaN is greater than everything in PostgreSQL."""
    test = sql.SQL("not {} between {}::float8 and {}::float8")
    return sql.SQL(" or ").join(test.format(sql.Identifier("f", c.name), *map(sql.Literal, limits(c))) for c in columns)


def limits(column: Column) -> tuple[float, float]:
    """The least and the greatest number that the table may hold of a column: any finite one where it has no bound."""
    least, greatest = column.bounds
    return (
        -sys.float_info.max if least is None else least - ROUNDING,
        sys.float_info.max if greatest is None else greatest + ROUNDING,
    )
