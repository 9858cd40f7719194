"""Summaries of minute bars by session, marks of partial sessions, and the newest bar of each series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import MINUTE_1, TIMEFRAMES, Timeframe

SQL = statements("backfill_assets.adapters.store", "series.sql")


type Marks = Mapping[tuple[str, date], str | None]
"""By symbol and session of minutes: why it is partial, None if it is not."""


@dataclass(frozen=True, slots=True)
class MinuteSession:
    """What is recorded of the minute bars of a session.

    half_hours  the number of bars in each half hour of the market's day, 48 bytes
    volume      the sum of their volumes
    day_volume  the volume of the daily bar
    has_day     whether there is one
    partial     whether the session is marked as partial, and why

    What is not recorded is None.
    """

    session: date
    bars: int
    half_hours: bytes | None
    volume: float | None
    day_volume: float | None
    has_day: bool | None
    partial: bool
    partial_because: str | None


class SeriesStore(Store):
    """Reads what is stored of each series."""

    def minute_sessions(self, symbols: Iterable[str], days: DayRange) -> dict[str, list[MinuteSession]]:
        """Return by symbol the sessions within the days that have minute bars, ascending."""
        values = {"symbols": list(symbols), "start": days.start, "end": days.end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["minute_sessions"], values).fetchall())
        found: dict[str, list[MinuteSession]] = {}
        for symbol, *columns in rows:
            found.setdefault(symbol, []).append(MinuteSession(*columns))
        return found

    def features_of(self, symbol: str) -> list[tuple[str, datetime | None, bool]]:
        """Return by timeframe of a symbol the newest bar with features (UTC), and whether any features are out of date."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["features_of"], {"symbol": symbol}).fetchall())
        found = [(timeframe, at.astimezone(UTC) if at else None, stale) for timeframe, at, stale in rows]
        return sorted(found, key=lambda row: TIMEFRAMES[row[0]].seconds)

    def restatements_of(self, symbol: str, most: int = 10) -> list[tuple[str, date, int, datetime]]:
        """Return the days (UTC) of a symbol whose bars changed last: timeframe, day, number of bars, and when (UTC)."""
        values = {"symbol": symbol, "most": most}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["restatements_of"], values).fetchall())
        return [(timeframe, day, bars, at.astimezone(UTC)) for timeframe, day, bars, at in rows]

    def bars_by_symbol(self) -> dict[str, int]:
        """Return how many bars of all timeframes are stored of each symbol that has any."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["bars_by_symbol"]).fetchall())
        return {symbol: bars for symbol, bars in rows if bars}

    def purge(self, symbols: Iterable[str]) -> int:
        """Delete everything that is stored of symbols, but the records of runs; return how many bars there were."""
        values = {"symbols": list(symbols)}

        def work(connection: psycopg.Connection[Row]) -> int:
            row: Any = connection.execute(SQL["purge"], values).fetchone()
            connection.execute(SQL["purge_counts"], values)
            return int(row[0])

        return self._transaction(work)

    def mark_partial(self, marks: Marks) -> None:
        """Mark sessions as partial for a reason, or as not partial."""
        if not marks:
            return
        keys = sorted(marks)
        values = {
            "timeframe": MINUTE_1.name,
            "symbol": [symbol for symbol, _ in keys],
            "session": [session for _, session in keys],
            "because": [marks[key] for key in keys],
        }
        self._transaction(lambda c: c.execute(SQL["mark_partial"], values))

    def last_bars(self, symbols: Iterable[str], timeframes: Iterable[Timeframe]) -> dict[tuple[str, str], datetime]:
        """Return the start of the newest bar, UTC, by symbol and timeframe name, without series that have no bars.

        Takes 3 to 16 ms for 200 series in 10 million bars.
        """
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes]}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["last_bars"], values).fetchall())
        return {(symbol, timeframe): at.astimezone(UTC) for symbol, timeframe, at in rows if at is not None}
