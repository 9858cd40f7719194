"""Which flat files were read, what fallbacks answered, and how stored sessions differ from another source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.fallbacks import FallbackAnswer
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.sources import Difference
from backfill_assets.domain.timeframes import Timeframe

SQL = statements("backfill_assets.adapters.store", "sources.sql")


type FallbackAnswers = dict[tuple[str, str, date], dict[str, FallbackAnswer]]
"""By symbol, timeframe name and session, then by name of the fallback."""


class BesideWitness(NamedTuple):
    """A session of a witness: the stored prices, None without a bar, and those of the witness."""

    session: date
    high: float | None
    low: float | None
    close: float | None
    witness_high: float
    witness_low: float
    witness_close: float


@dataclass(frozen=True, slots=True)
class SessionDifference:
    """A stored session that differs from what another source has of it."""

    symbol: str
    timeframe: str
    session: date
    other_source: str
    difference: Difference


class SourceStore(Store):
    """The tables `flat_files_read`, `fallback_answers`, `witness_bars` and `source_differences`."""

    def files_read(self, market: str, timeframe: Timeframe, days: DayRange) -> dict[date, str]:
        """Return the ETags of the files that were read for all symbols of a market, by session."""
        values = {"market": market, "timeframe": timeframe.name, "start": days.start, "end": days.end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["files_read"], values).fetchall())
        return dict(rows)

    def record_file(
        self, market: str, timeframe: Timeframe, session: date, etag: str, modified: datetime, at: datetime
    ) -> None:
        """Record that a file was read for all symbols of a market; instants are aware."""
        values = {"market": market, "timeframe": timeframe.name, "session": session}
        values |= {"etag": etag, "modified": modified, "read_at": at}
        self._transaction(lambda c: c.execute(SQL["record_file"], values))

    def fallback_answers(
        self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange
    ) -> FallbackAnswers:
        """Return what fallbacks answered for sessions within the days."""
        values = {"symbols": list(symbols), "timeframes": [t.name for t in timeframes]}
        values |= {"start": days.start, "end": days.end}  # type: ignore[dict-item]  # dates
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["fallback_answers"], values).fetchall())
        found: FallbackAnswers = defaultdict(dict)
        for symbol, timeframe, session, source, *answer in rows:
            found[symbol, timeframe, session][source] = FallbackAnswer(*answer)
        return found

    def record_fallback(
        self, symbol: str, timeframe: Timeframe, source: str, answers: Mapping[date, FallbackAnswer]
    ) -> None:
        """Record what a fallback answered, by session."""
        series = {"symbol": symbol, "timeframe": timeframe.name, "source": source}
        rows = [series | {"session": session} | asdict(answer) for session, answer in sorted(answers.items())]

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.cursor().executemany(SQL["record_fallback"], rows)

        self._transaction(work)

    def witnessed(self, source: str, symbols: Iterable[str]) -> dict[str, DayRange]:
        """Return by symbol the first and the last session of which a witness's bar is stored."""
        values = {"source": source, "symbols": list(symbols)}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["witnessed"], values).fetchall())
        return {symbol: DayRange(first, last) for symbol, first, last in rows}

    def record_witness(self, source: str, symbol: str, sessions: Sequence[date], bars: Bars, at: datetime) -> None:
        """Store a witness's daily bars, one a session."""
        columns = {name: getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume")}
        values = {"source": source, "symbol": symbol, "sessions": list(sessions), "fetched_at": at, **columns}
        self._transaction(lambda c: c.execute(SQL["record_witness"], values))

    def beside_witness(self, source: str, symbols: Iterable[str], zone: ZoneInfo) -> dict[str, list[BesideWitness]]:
        """Return by symbol the witness's sessions, ascending, beside what the vendor has of them."""
        values = {"source": source, "symbols": list(symbols), "zone": zone.key}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["beside_witness"], values).fetchall())
        found: dict[str, list[BesideWitness]] = {}
        for symbol, *row in rows:
            found.setdefault(symbol, []).append(BesideWitness(*row))
        return found

    def symbols_from(
        self, source: str, symbols: Iterable[str], timeframe: Timeframe, session: date, zone: ZoneInfo
    ) -> set[str]:
        """Return the symbols of which bars of a session are stored from a source."""
        start, end = (instant(ms) for ms in day_starts([session, session + ONE_DAY], zone))
        values = {"source": source, "symbols": list(symbols), "timeframe": timeframe.name, "starts": start, "ends": end}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["symbols_of_source"], values).fetchall())
        return {row[0] for row in rows}

    def record_difference(
        self, symbol: str, timeframe: Timeframe, session: date, source: str, found: Difference | None, at: datetime
    ) -> None:
        """Record how a stored session differs from a source, None if it does not."""
        values: dict[str, object] = {"symbol": symbol, "timeframe": timeframe.name, "session": session}
        values |= {"other_source": source, "compared_at": at}
        statement = "record_difference" if found else "forget_difference"
        self._transaction(lambda c: c.execute(SQL[statement], values | (asdict(found) if found else {})))

    def differences(self, symbols: Iterable[str]) -> list[SessionDifference]:
        """Return the sessions that differ, the newest first."""
        rows: list[Any] = self._transaction(
            lambda c: c.execute(SQL["differences"], {"symbols": list(symbols)}).fetchall()
        )
        return [
            SessionDifference(symbol, timeframe, session, source, Difference(*found))
            for symbol, timeframe, session, source, *found in rows
        ]
