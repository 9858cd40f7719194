"""Bars and the sessions they answer: written together, read for planning.

What lives here: the transactions. What does not: the statements (`rows`), deciding what to ask for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import open_pool, with_reconnection
from backfill_assets.adapters.store.derived import write_derived
from backfill_assets.adapters.store.rows import SQL, Rows, Written
from backfill_assets.domain.answers import Answers, SessionAnswer, WholeSessions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import Timeframe

__all__ = ["BarStore", "SeriesAnswers", "Written"]

type SeriesAnswers = Mapping[tuple[str, str], Answers]
"""By symbol and timeframe name, then by session."""


class BarStore:
    """The bars of every series, over a pool of connections that threads share. Use it as a context manager.

    Methods raise DatabaseUnavailable where the server stays away.
    """

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

    def write(  # each is one thing that a row or its session needs
        self,
        symbol: str,
        timeframe: Timeframe,
        answer: WholeSessions,
        zone: ZoneInfo,
        source: str,
        derived: Sequence[Timeframe] = (),
        finished: Sequence[date] = (),
    ) -> Written:
        """Store an answer: bars, what is derived from them, the sessions they answer and the coverage, in one transaction.

        Writing the same answer again changes nothing. `zone` is the market's, for the bounds of a session; `finished` its
        finished sessions, for which weeks are whole. What is told is of the answer's own bars, not of the derived ones.
        """

        def transaction() -> Written:
            with self._pool.connection() as connection, connection.transaction():
                return _write(
                    _locked(Rows(connection, symbol, timeframe.name, zone)), answer, source, derived, finished
                )

        try:
            return with_reconnection(self._url, transaction)
        except psycopg.errors.UniqueViolation:
            # Somebody who takes no turn filled the same empty stretch meanwhile: seen the second time, it is merged into.
            return with_reconnection(self._url, transaction)

    def derive(
        self,
        symbol: str,
        timeframe: Timeframe,
        sessions: Sequence[date],
        zone: ZoneInfo,
        derived: Sequence[Timeframe],
        finished: Sequence[date],
    ) -> None:
        """Make derived bars from what is stored of `timeframe`, for sessions (ascending) that have it and lack them."""

        def transaction() -> None:
            with self._pool.connection() as connection, connection.transaction():
                rows = _locked(Rows(connection, symbol, timeframe.name, zone))
                write_derived(rows, derived, sessions, None, finished)

        with_reconnection(self._url, transaction)

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
                return connection.execute(SQL["answers"], asked).fetchall()

        found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
        for symbol, timeframe, session, bars, first, last, empty in with_reconnection(self._url, query):
            found[symbol, timeframe][session] = SessionAnswer(session, bars, first, last, empty)
        return dict(found)


def _locked(rows: Rows) -> Rows:
    rows.connection.execute(SQL["lock_source"], {"symbol": rows.symbol, "timeframe": rows.timeframe})
    return rows


def _write(
    rows: Rows, answer: WholeSessions, source: str, derived: Sequence[Timeframe], finished: Sequence[date]
) -> Written:
    written = rows.merge(answer.bars, source)
    if not answer.sessions:
        return written
    seen_before = rows.record(answer.sessions, answer.counts)
    if seen_before:
        rows.recount(answer.sessions)
    write_derived(rows, derived, answer.sessions, None if seen_before else answer.bars, finished)
    return written
