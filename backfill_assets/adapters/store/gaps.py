"""Gaps: what is missing by the tables, and the table that keeps it with its history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.rows import SQL as BARS_SQL
from backfill_assets.domain.answers import Answers, SessionAnswer
from backfill_assets.domain.days import DayRange, ranges_of
from backfill_assets.domain.gap_history import Change, KnownGap, OpenGap
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.domain.timeframes import Timeframe, sources

SQL = statements("backfill_assets.adapters.store", "gaps.sql")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the tables say of some series at one instant.

    lacking  by symbol and timeframe name: the days among whose expected sessions there are no bars, ascending
    incomplete  by symbol and name of a source timeframe: what was asked for and is not whole
    known    the gaps that stand open in the table
    """

    lacking: Mapping[tuple[str, str], Sequence[DayRange]]
    incomplete: Mapping[tuple[str, str], Answers]
    known: Sequence[KnownGap]


class GapStore(Store):
    """Reads what is missing, and keeps backfill_gaps."""

    def compare(
        self,
        symbols: Sequence[str],
        timeframes: Sequence[Timeframe],
        sessions: Iterable[date],
        listings: Mapping[str, Listing],
        judge: Callable[[Recorded], Change],
        now: datetime,
    ) -> None:
        """Show `judge` what the tables say, and write the change that it answers with, in one transaction.

        `sessions` are those that are expected of a symbol, within its listing. Whoever else compares waits for the end.
        """
        asked = {
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "listed": [listings.get(s, UNKNOWN).listed for s in symbols],
            "delisted": [listings.get(s, UNKNOWN).delisted for s in symbols],
            "sessions": multirange(sessions),
        }

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["lock_gaps"])
            rows = _Rows(connection)
            found = Recorded(rows.lacking(asked), rows.incomplete(symbols, sources(timeframes)), rows.known(asked))
            rows.apply(judge(found), now)

        self._transaction(work)

    def forget_others(self, kept: Iterable[tuple[str, str]]) -> None:
        """Take away the open gaps of series (symbol, timeframe name) that are not among those kept."""
        pairs = list(kept)
        values = {"symbols": [s for s, _ in pairs], "timeframes": [t for _, t in pairs]}
        self._transaction(lambda connection: connection.execute(SQL["forget_others"], values))


def multirange(days: Iterable[date]) -> str:
    """Days as PostgreSQL writes a datemultirange."""
    return "{" + ",".join(f"[{r.start},{r.end}]" for r in ranges_of(days)) + "}"


@dataclass(frozen=True, slots=True)
class _Rows:
    connection: psycopg.Connection[Row]

    def lacking(self, asked: Mapping[str, Any]) -> dict[tuple[str, str], list[DayRange]]:
        found: dict[tuple[str, str], list[DayRange]] = defaultdict(list)
        for symbol, timeframe, first, last in self._all("lacking", asked):
            found[symbol, timeframe].append(DayRange(first, last))
        return found

    def incomplete(self, symbols: Sequence[str], of: Sequence[Timeframe]) -> dict[tuple[str, str], Answers]:
        found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
        values = {"symbols": list(symbols), "timeframes": [t.name for t in of]}
        rows: list[Any] = self.connection.execute(BARS_SQL["incomplete_answers"], values).fetchall()
        for symbol, timeframe, *answer in rows:
            found[symbol, timeframe][answer[0]] = SessionAnswer(*answer)
        return dict(found)

    def known(self, asked: Mapping[str, Any]) -> list[KnownGap]:
        return [
            KnownGap(
                number,
                Gap(symbol, timeframe, DayRange(start, end), sessions, Reason(reason), explained, attempts, due),
                seen,
            )
            for number, symbol, timeframe, start, end, sessions, reason, explained, attempts, due, seen in self._all(
                "open_gaps", asked
            )
        ]

    def apply(self, change: Change, now: datetime) -> None:
        if change.gone:
            self.connection.execute(SQL["take_away"], {"ids": list(change.gone)})
        self._note(change.closed, now, filled=True)
        self._note(change.opened, now, filled=False)

    def _note(self, gaps: Sequence[OpenGap], now: datetime, *, filled: bool) -> None:
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
        }
        self.connection.execute(SQL["note_gaps"], values | {"filled": filled, "now": now})

    def _all(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        return self.connection.execute(SQL[statement], values).fetchall()
