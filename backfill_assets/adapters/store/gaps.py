"""Gaps: what is missing by the tables, and the table that records it with its history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.rows import SQL as BARS_SQL
from backfill_assets.adapters.store.rows import answers_by_series
from backfill_assets.adapters.store.series import Marks
from backfill_assets.domain.answers import Answers
from backfill_assets.domain.days import DayRange, ranges_of
from backfill_assets.domain.gap_history import Change, KnownGap, OpenGap
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.timeframes import MINUTE_1, Timeframe, sources

SQL = statements("backfill_assets.adapters.store", "gaps.sql")


@dataclass(frozen=True, slots=True)
class GapRows:
    """What the tables say of some series, in a transaction that has the table of gaps locked unless it only reads.

    missing     by symbol and timeframe name: the ranges of days whose expected sessions have no bars, ascending
    incomplete  by symbol and name of a source timeframe: the sessions that were requested and are not complete
    known       the gaps that are open in the table
    """

    connection: psycopg.Connection[Row]
    missing: Mapping[tuple[str, str], Sequence[DayRange]]
    incomplete: Mapping[tuple[str, str], Answers]
    known: Sequence[KnownGap]

    def apply(self, change: Change, now: datetime) -> None:
        """Write a change to the table of gaps."""
        if change.gone:
            self.connection.execute(SQL["delete_gaps"], {"ids": list(change.gone)})
        self._insert(change.closed, now, filled=True)
        self._insert(change.opened, now, filled=False)

    def _insert(self, gaps: Sequence[OpenGap], now: datetime, *, filled: bool) -> None:
        if not gaps:
            return
        values = {
            "symbol": [g.gap.symbol for g in gaps],
            "timeframe": [g.gap.timeframe for g in gaps],
            "start": [g.gap.days.start for g in gaps],
            "end": [g.gap.days.end for g in gaps],
            "sessions_of": [g.gap.sessions for g in gaps],
            "reason": [g.gap.reason.value for g in gaps],
            "explained": [g.gap.explained for g in gaps],
            "attempts": [g.gap.attempts for g in gaps],
            "next": [g.gap.next_attempt_at for g in gaps],
            "first_seen": [g.first_seen for g in gaps],
            "detail": [g.gap.detail for g in gaps],
        }
        self.connection.execute(SQL["insert_gaps"], values | {"filled": filled, "now": now})


class GapStore(Store):
    """Reads what is missing, and maintains backfill_gaps."""

    @contextmanager
    def locked(
        self,
        symbols: Sequence[str],
        timeframes: Sequence[Timeframe],
        sessions: Iterable[date],
        listings: Mapping[str, Listing],
        marks: Marks = MappingProxyType({}),
        *,
        witness: str | None = None,
    ) -> Iterator[GapRows]:
        """Lock the table of gaps and read some series, in one transaction that ends with the context.

        `sessions` are expected of every symbol within its listing, `marks` taken as if they were recorded. A second caller
        waits, unless the store is `read_only`: then nothing is locked. Use it in a function decorated with `reconnecting`.
        """
        values = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "sources": [t.name for t in sources(timeframes)],
            "listed": [listings.get(s, UNKNOWN).first_day for s in symbols],
            "delisted": [listings.get(s, UNKNOWN).last_day for s in symbols],
            "sessions": multirange(sessions),
            "witness": witness,
        }
        with self._connection() as connection:

            def rows(statement: str) -> list[Any]:
                return connection.execute(statement, values).fetchall()

            connection.execute(SQL["may_idle" if self.read_only else "lock_gaps"])
            missing: dict[tuple[str, str], list[DayRange]] = defaultdict(list)
            for symbol, timeframe, first, last in rows(SQL["missing_days"]):
                missing[symbol, timeframe].append(DayRange(first, last))
            incomplete = dict(answers_by_series(rows(BARS_SQL["incomplete_answers"])))
            if marks:
                marked = {
                    "symbols": sorted({symbol for symbol, _ in marks}),
                    "timeframes": [MINUTE_1.name],
                    "start": min(session for _, session in marks),
                    "end": max(session for _, session in marks),
                    "witness": witness,
                }
                answers = answers_by_series(connection.execute(BARS_SQL["answers"], marked).fetchall())
                for series, minutes in answers.items():
                    incomplete[series] = _with_marks(series[0], incomplete.get(series, {}), minutes, marks)
            known = [
                KnownGap(number, Gap(symbol, timeframe, DayRange(start, end), count, Reason(reason), *rest), first_seen)
                for number, symbol, timeframe, start, end, count, reason, *rest, first_seen in rows(SQL["open_gaps"])
            ]
            yield GapRows(connection, missing, incomplete, known)


def _with_marks(symbol: str, incomplete: Answers, minutes: Answers, marks: Marks) -> Answers:
    """Return the incomplete sessions of a symbol's minutes as if its marks were recorded."""
    judged = {
        session: replace(minutes[session], partial=because is not None, partial_because=because)
        for (name, session), because in marks.items()
        if name == symbol and session in minutes
    }
    return {session: answer for session, answer in {**incomplete, **judged}.items() if not answer.complete}


def multirange(days: Iterable[date]) -> str:
    """Days in PostgreSQL's notation of a datemultirange."""
    return "{" + ",".join(f"[{r.start},{r.end}]" for r in ranges_of(days)) + "}"
