"""Bars and the sessions they answer: written together, read for planning.

What lives here: market_data, session_answers and coverage. What does not: deciding what to ask for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import numpy as np
import psycopg

from backfill_assets.adapters.postgres import Row, open_pool, with_reconnection
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.copy_format import copy_block, without_nulls
from backfill_assets.domain.answers import EMPTY_ANSWERS_APART, Answers, SessionAnswer, WholeSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY, DayRange, ranges_of
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import Timeframe

_SQL = statements("backfill_assets.adapters.store", "bars.sql")

type SeriesAnswers = Mapping[tuple[str, str], Answers]
"""By symbol and timeframe name, then by session."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did to market_data: rows added, rows whose values changed, rows that stood already."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.inserted + other.inserted, self.changed + other.changed, self.unchanged + other.unchanged)


class BarStore:
    """The bars of every series, over a pool of connections that threads share. Use it as a context manager."""

    def __init__(self, url: str, *, connections: int = 4) -> None:
        self._url = url
        self._pool = open_pool(url, connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back to the server."""
        self._pool.close()

    def write(self, symbol: str, timeframe: Timeframe, answer: WholeSessions, zone: ZoneInfo, source: str) -> Written:
        """Store an answer: bars, the sessions they answer and the coverage, in one transaction.

        Writing the same answer again changes nothing. `zone` is the market's, for the bounds of a session.
        Raises DatabaseUnavailable where the server stays away.
        """

        def transaction() -> Written:
            with self._pool.connection() as connection, connection.transaction():
                return _write(connection, symbol, timeframe.name, answer, zone, source)

        try:
            return with_reconnection(self._url, transaction)
        except psycopg.errors.UniqueViolation:
            # Another process filled the same empty stretch meanwhile: seen the second time, it is merged into.
            return with_reconnection(self._url, transaction)

    def answers(self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange) -> SeriesAnswers:
        """What stands recorded of each series within the days; series of which nothing does are absent."""
        asked = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "start": days.start,
            "end": days.end,
        }

        def query() -> list[Any]:
            with self._pool.connection() as connection:
                return connection.execute(_SQL["answers"], asked).fetchall()

        found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
        for symbol, timeframe, session, bars, first, last, empty in with_reconnection(self._url, query):
            found[symbol, timeframe][session] = SessionAnswer(session, bars, first, last, empty)
        return dict(found)


def _write(
    connection: psycopg.Connection[Row],
    symbol: str,
    timeframe: str,
    answer: WholeSessions,
    zone: ZoneInfo,
    source: str,
) -> Written:
    series = {"symbol": symbol, "timeframe": timeframe}
    written = _merge(connection, series | {"source": source}, answer.bars)
    if answer.sessions:
        _record(connection, series, answer, zone)
    return written


def _merge(connection: psycopg.Connection[Row], series: dict[str, str], bars: Bars) -> Written:
    if not len(bars):
        return Written()
    if without_nulls(bars) and not _any_between(connection, series, bars):
        texts = (series["symbol"], series["timeframe"], series["source"])
        with connection.cursor() as cursor, cursor.copy(_SQL["copy_bars"]) as copy:
            copy.write(copy_block(bars, texts))
        return Written(inserted=len(bars))
    connection.execute(_SQL["make_stage"])
    with connection.cursor() as cursor, cursor.copy(_SQL["copy_stage"]) as copy:
        copy.write(copy_block(bars))
    row: Any = connection.execute(_SQL["merge"], series).fetchone()
    return Written(row[0], row[1], len(bars) - row[0] - row[1])


def _any_between(connection: psycopg.Connection[Row], series: dict[str, str], bars: Bars) -> bool:
    ends = {"first": _instant(bars.timestamp[0]), "last": _instant(bars.timestamp[-1])}
    row: Any = connection.execute(_SQL["any_between"], series | ends).fetchone()
    return bool(row[0])


def _record(connection: psycopg.Connection[Row], series: dict[str, str], answer: WholeSessions, zone: ZoneInfo) -> None:
    counts = {c.session: c for c in answer.counts}
    rows = [counts.get(s) for s in answer.sessions]
    recorded: list[Any] = connection.execute(
        _SQL["record_sessions"],
        series
        | {
            "apart": EMPTY_ANSWERS_APART,
            "sessions": list(answer.sessions),
            "bars": [r.bars if r else 0 for r in rows],
            "first": [r.first if r else None for r in rows],
            "last": [r.last if r else None for r in rows],
        },
    ).fetchall()
    again = [session for session, seen_before in recorded if seen_before]
    if again:
        starts, ends = day_starts(again, zone), day_starts([s + ONE_DAY for s in again], zone)
        instants = {"starts": [_instant(ms) for ms in starts], "ends": [_instant(ms) for ms in ends]}
        connection.execute(_SQL["recount_sessions"], series | {"sessions": again} | instants)
    filled = ranges_of(counts)
    if filled:
        bounds = {"starts": [r.start for r in filled], "ends": [r.end for r in filled]}
        connection.execute(_SQL["cover"], series | bounds)


def _instant(ms: np.int64) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
