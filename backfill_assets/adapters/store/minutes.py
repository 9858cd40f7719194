"""How many minute bars sessions have, and which of them are marked as partial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import SQL
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import MINUTE_1


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """One session's minute bars, and whether it stands marked as partial."""

    session: date
    bars: int
    partial: bool


class MinuteStore(Store):
    """The counts of minute bars by symbol and session."""

    def counts(self, symbols: Iterable[str], days: DayRange) -> dict[str, list[MinuteCount]]:
        """By symbol the sessions within the days that have minutes, ascending."""
        values = {
            "symbols": list(symbols),
            "timeframe": MINUTE_1.name,
            "start": days.start,
            "end": days.end,
        }
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["minute_counts"], values).fetchall())
        found: dict[str, list[MinuteCount]] = {}
        for symbol, session, bars, partial in rows:
            found.setdefault(symbol, []).append(MinuteCount(session, bars, partial))
        return found

    def mark(self, marks: Mapping[tuple[str, date], bool]) -> None:
        """Set whether sessions (by symbol and day) are partial."""
        if not marks:
            return
        keys: Sequence[tuple[str, date]] = sorted(marks)
        values = {
            "timeframe": MINUTE_1.name,
            "symbol": [symbol for symbol, _ in keys],
            "session": [session for _, session in keys],
            "partial": [marks[key] for key in keys],
        }
        self._transaction(lambda c: c.execute(SQL["mark_partial"], values))
