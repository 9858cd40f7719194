"""Bars and the sessions they answer: written together, read for planning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.derived import write_derived
from backfill_assets.adapters.store.rows import SQL, Rows, Written
from backfill_assets.domain.answers import Answers, CompleteSessions, SessionAnswer
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.retries import FIRST_PAUSE
from backfill_assets.domain.timeframes import Timeframe

__all__ = ["BarStore", "SeriesAnswers", "WriteContext", "Written"]

type SeriesAnswers = Mapping[tuple[str, str], Answers]
"""By symbol and timeframe name, then by session."""


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What an answer is stored with.

    zone         the market's, for the bounds of a session
    attempted_at     the instant of the attempt, UTC
    source       what the column of that name says
    derived      the timeframes that are made from the answer's
    finished     the market's finished sessions, at least those of the weeks that are touched: a week is made once all
    are answered first_pause  after which a second attempt counts
    """

    zone: ZoneInfo
    attempted_at: datetime
    source: str = "polygon"
    derived: tuple[Timeframe, ...] = ()
    finished: tuple[date, ...] = ()
    first_pause: timedelta = FIRST_PAUSE

    def rows(self, connection: psycopg.Connection[Row], symbol: str, timeframe: Timeframe) -> Rows:
        """A series in a transaction that is open already."""
        return Rows(connection, symbol, timeframe.name, self.zone, self.attempted_at, self.first_pause)


class BarStore(Store):
    """The bars of every series."""

    def write(self, symbol: str, timeframe: Timeframe, answer: CompleteSessions, terms: WriteContext) -> Written:
        """Store an answer: bars, what is derived from them, the sessions they answer and the coverage, in one transaction.

        Writing the same answer again changes nothing. What is told is of the answer's own bars, not of the derived ones.
        """

        def work(connection: psycopg.Connection[Row]) -> Written:
            return _write(_locked(terms.rows(connection, symbol, timeframe)), answer, terms)

        try:
            return self._transaction(work)
        except psycopg.errors.UniqueViolation:
            # Somebody who takes no turn filled the same empty stretch meanwhile: seen the second time, it is merged into.
            return self._transaction(work)

    def write_failures(
        self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], terms: WriteContext, *, refused: bool
    ) -> None:
        """Note that sessions could not be asked for; `refused`: because the vendor's plan does not include them."""

        def work(connection: psycopg.Connection[Row]) -> None:
            _locked(terms.rows(connection, symbol, timeframe)).record_failures(sessions, refused=refused)

        self._transaction(work)

    def derive(self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], terms: WriteContext) -> None:
        """Make derived bars from what is stored of `timeframe`, for sessions (ascending) that have it and lack them."""

        def work(connection: psycopg.Connection[Row]) -> None:
            rows = _locked(terms.rows(connection, symbol, timeframe))
            write_derived(rows, terms.derived, sessions, None, terms.finished)

        self._transaction(work)

    def answers(self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange) -> SeriesAnswers:
        """What stands recorded of each series within the days; series of which nothing does are absent."""
        asked = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "start": days.start,
            "end": days.end,
        }

        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["answers"], asked).fetchall())
        found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
        for symbol, timeframe, *answer in rows:
            found[symbol, timeframe][answer[0]] = SessionAnswer(*answer)
        return dict(found)

    def any_filled(self, symbols: Iterable[str], timeframe: str | None = None) -> bool:
        """Whether bars of any of the symbols are stored, of the timeframe of that name or of any."""
        values = {"symbols": list(symbols), "timeframe": timeframe}
        row: Any = self._transaction(lambda c: c.execute(SQL["any_filled"], values).fetchone())
        return bool(row[0])


def _locked(rows: Rows) -> Rows:
    rows.connection.execute(SQL["lock_source"], {"symbol": rows.symbol, "timeframe": rows.timeframe})
    return rows


def _write(rows: Rows, answer: CompleteSessions, terms: WriteContext) -> Written:
    written = rows.merge(answer.bars, terms.source)
    if not answer.sessions:
        return written
    seen_before = rows.record(answer.sessions, answer.counts)
    if seen_before:
        rows.recount(answer.sessions)
    write_derived(rows, terms.derived, answer.sessions, None if seen_before else answer.bars, terms.finished)
    return written
