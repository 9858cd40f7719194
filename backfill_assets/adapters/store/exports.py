"""What an export needs to know of the store: what has changed in it, and that no other export writes to the same place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backfill_assets.adapters.postgres import connected
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import DAY_1, WEEK_1

SQL = statements("backfill_assets.adapters.store", "exports.sql")

_WEEK = 7 * ONE_DAY


@dataclass(frozen=True, slots=True)
class MonthState:
    """The symbols that have bars of a timeframe in a month, and a text that changes with what is exported of them."""

    symbols: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Sums:
    """What the bars of a symbol in a month add up to: instants aware; prices by 10,000, volumes by 100."""

    symbol: str
    bars: int = 0
    first: datetime | None = None
    last: datetime | None = None
    trades: int = 0
    prices: int = 0
    volume: int = 0


def next_month(month: date) -> date:
    """Return the first day of the month after the one that contains a day."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


class ExportStore(Store):
    """The tables, as an export compares them with its manifest."""

    def states(
        self,
        symbols: Sequence[str],
        timeframes: Sequence[str],
        months: DayRange,
        zone: ZoneInfo,
        *,
        features: bool,
        adjust: str,
    ) -> dict[tuple[str, date], MonthState]:
        """Return by timeframe and month (its first day, in `zone`) what is stored; months without bars are missing.

        A weekly bar belongs to the month of its Sunday.
        """
        adjusted_weeks = adjust != "none" and WEEK_1.name in timeframes  # made from daily bars
        values = {
            "symbols": list(symbols),
            "timeframes": [*timeframes, DAY_1.name] if adjusted_weeks else list(timeframes),
            "start": months.start,
            "end": months.end + _WEEK if not adjusted_weeks else next_month(months.end) + 5 * _WEEK,
            "zone": zone.key,
            "features": features,
            "dividends": adjust == "all",
        }

        def work(connection: Any) -> tuple[list[Any], list[Any]]:
            rows = connection.execute(SQL["states"], values).fetchall()
            return rows, connection.execute(SQL["stretches"], values).fetchall() if adjust != "none" else []

        rows, stretches = self._transaction(work)
        found = {(timeframe, month): MonthState(tuple(names), text) for timeframe, month, names, text in rows}
        wanted = {key: state for key, state in found.items() if key[0] in timeframes and key[1] in months}
        if not stretches and not adjusted_weeks:
            return wanted
        for (timeframe, month), state in wanted.items():
            after = next_month(month)
            first, last = day_starts([month, after + _WEEK], zone) / 1000
            near = [row for row in stretches if row[0] in state.symbols and row[1] < last and row[2] > first]
            days = [found.get((DAY_1.name, each)) for each in (month, after) if timeframe == WEEK_1.name]
            text = repr((state.text, near, [each and each.text for each in days]))
            wanted[timeframe, month] = MonthState(state.symbols, hashlib.sha256(text.encode()).hexdigest()[:32])
        return wanted

    def sums(self, symbols: Sequence[str], timeframe: str, start: datetime, end: datetime) -> list[Sums]:
        """Add up the stored bars that begin in [start, end) by symbol."""
        values = {"symbols": list(symbols), "timeframe": timeframe, "start": start, "end": end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["sums"], values).fetchall())
        return [Sums(*row[:4], *map(int, row[4:])) for row in rows]


@contextmanager
def only_export(url: str, place: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Be the only export of this store to a place, until the context or the connection to the server ends."""
    with connected(url) as connection:
        values = {"place": place}
        row: Any = connection.execute(SQL["lock"], values).fetchone()
        if not row[0]:
            on_wait(f"Waiting for another export to {place}.")
            connection.execute(SQL["wait"], values)
        yield
