"""Counts of minute bars by session, marks of partial sessions, and the newest bar of each series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import MINUTE_1, Timeframe

SQL = statements("backfill_assets.adapters.store", "series.sql")


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """The number of minute bars of a session, and whether it is marked as partial."""

    session: date
    bars: int
    partial: bool


class SeriesStore(Store):
    """Reads what is stored of each series."""

    def minute_counts(self, symbols: Iterable[str], days: DayRange) -> dict[str, list[MinuteCount]]:
        """Return by symbol the sessions within the days that have minute bars, ascending."""
        values = {"symbols": list(symbols), "timeframe": MINUTE_1.name, "start": days.start, "end": days.end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["minute_counts"], values).fetchall())
        found: dict[str, list[MinuteCount]] = {}
        for symbol, session, bars, partial in rows:
            found.setdefault(symbol, []).append(MinuteCount(session, bars, partial))
        return found

    def mark_partial(self, marks: Mapping[tuple[str, date], bool]) -> None:
        """Set whether sessions (by symbol and day) are partial."""
        if not marks:
            return
        keys = sorted(marks)
        values = {
            "timeframe": MINUTE_1.name,
            "symbol": [symbol for symbol, _ in keys],
            "session": [session for _, session in keys],
            "partial": [marks[key] for key in keys],
        }
        self._transaction(lambda c: c.execute(SQL["mark_partial"], values))

    def last_bars(self, symbols: Iterable[str], timeframes: Iterable[Timeframe]) -> dict[tuple[str, str], datetime]:
        """Return the start of the newest bar, UTC, by symbol and timeframe name, without series that have no bars.

        Takes 3 to 16 ms for 200 series in 10 million bars.
        """
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes]}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["last_bars"], values).fetchall())
        return {(symbol, timeframe): at.astimezone(UTC) for symbol, timeframe, at in rows if at is not None}
