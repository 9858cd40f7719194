"""Bars and the sessions that they answer: written together, read for planning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.rows import (
    DERIVED,
    SQL,
    Rows,
    SeriesAnswers,
    StoredSession,
    Written,
    answers_by_series,
    instant,
)
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars, Int
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import derive, week_end, week_start
from backfill_assets.domain.retries import FIRST_PAUSE, Shrunk, unconfirmed
from backfill_assets.domain.sessions import SessionBars, count_by_session, day_starts, session_rows
from backfill_assets.domain.timeframes import WEEK_1, Timeframe

__all__ = ["BarStore", "SeriesAnswers", "WriteContext", "Written"]


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What an answer is stored with.

    zone         the market's, which bounds a session
    attempted_at  the instant of the attempt, UTC
    source       the value of the column `source`
    derived      the timeframes derived from the answer's
    finished     the market's finished sessions, at least those of the weeks that are touched: a week is derived once all of
                 its sessions are answered
    first_pause  the pause after which a second attempt counts
    run_id       of the run that writes, for the history
    """

    zone: ZoneInfo
    attempted_at: datetime
    source: str = "polygon"
    derived: tuple[Timeframe, ...] = ()
    finished: tuple[date, ...] = ()
    first_pause: timedelta = FIRST_PAUSE
    run_id: str | None = None

    def rows(self, connection: psycopg.Connection[Row], symbol: str, timeframe: Timeframe) -> Rows:
        """Return a series in a transaction that is already open."""
        return Rows(
            connection,
            symbol,
            timeframe.name,
            self.zone,
            self.attempted_at,
            self.first_pause,
            self.source,
            self.run_id,
        )


class BarStore(Store):
    """The bars of every series."""

    def write(self, symbol: str, timeframe: Timeframe, answer: CompleteSessions, context: WriteContext) -> Written:
        """Store an answer: its bars, the bars derived from them, its sessions and the coverage, in one transaction.

        Stored bars of its sessions that are not in it are removed; more than a tenth of a session only if an earlier answer
        did not have the same ones, see `unconfirmed`. Bars of a fallback are replaced as a whole by an answer that has some.
        Writing the same answer again changes nothing. The result counts the answer's own bars, not the derived ones.
        """
        return self.write_several(timeframe, {symbol: (answer, context)})[symbol]

    def write_several(
        self, timeframe: Timeframe, answers: Mapping[str, tuple[CompleteSessions, WriteContext]]
    ) -> dict[str, Written]:
        """Store answers by symbol, all in one transaction; see `write`."""

        def work(connection: psycopg.Connection[Row]) -> dict[str, Written]:
            _lock(connection, answers, timeframe.name)
            return {
                symbol: _write(context.rows(connection, symbol, timeframe), answer, context)
                for symbol, (answer, context) in answers.items()
            }

        if not any(answer.sessions for answer, _ in answers.values()):
            return dict.fromkeys(answers, Written())
        try:
            return self._transaction(work)
        except psycopg.errors.UniqueViolation:
            # A writer that takes no lock filled the same empty range in the meantime. The second attempt merges into it.
            return self._transaction(work)

    def fill(self, symbol: str, timeframe: Timeframe, answer: CompleteSessions, context: WriteContext) -> Written:
        """Store a fallback's bars of sessions, `context.source`, and the bars derived from them, in one transaction.

        Sessions that have bars of the vendor, or of this fallback, are not touched; bars of another fallback are replaced.
        """

        def work(connection: psycopg.Connection[Row]) -> Written:
            rows = _locked(context.rows(connection, symbol, timeframe))
            given = [count.session for count in answer.counts]
            taken = rows.of_vendor(given) | {
                s for s, had in rows.stored(given).items() if had.filled_by == context.source
            }
            counts = [count for count in answer.counts if count.session not in taken]
            sessions = [count.session for count in counts]
            bars = answer.bars.take(session_rows(answer.bars.timestamp, sessions, context.zone) >= 0)
            cleared = rows.clear(sessions)
            written = cleared + rows.merge(bars, fresh=not cleared.removed)
            rows.record_filled(counts, context.source)
            _write_derived(rows, context.derived, sessions, bars, context.finished, filled_by=context.source)
            return written

        return self._transaction(work) if answer.counts else Written()

    def write_failures(
        self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], context: WriteContext, *, refused: bool
    ) -> None:
        """Record that sessions could not be fetched; `refused`: because the vendor's plan does not include them."""

        def work(connection: psycopg.Connection[Row]) -> None:
            _locked(context.rows(connection, symbol, timeframe)).record_failures(sessions, refused=refused)

        self._transaction(work)

    def derive(self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], context: WriteContext) -> None:
        """Derive bars from the stored bars of `timeframe` for sessions (ascending) that have not been derived yet."""

        def work(connection: psycopg.Connection[Row]) -> None:
            rows = _locked(context.rows(connection, symbol, timeframe))
            filled_by = rows.answered(sessions)
            for name in {None, *filled_by.values()}:
                if own := [session for session in sessions if filled_by.get(session) == name]:
                    _write_derived(rows, context.derived, own, rows.read(own), context.finished, filled_by=name)

        if sessions:
            self._transaction(work)

    def summarize(
        self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], context: WriteContext
    ) -> list[SessionBars]:
        """Summarize the stored bars of sessions that were recorded before summaries were kept.

        The summaries are recorded unless the store is `read_only`.
        """

        def work(connection: psycopg.Connection[Row]) -> list[SessionBars]:
            rows = context.rows(connection, symbol, timeframe)
            if self.read_only:
                return rows.counted(sessions)
            counts = _locked(rows).counted(sessions)
            rows.recount(counts)
            return counts

        return self._transaction(work)

    def bars(self, symbol: str, timeframe: Timeframe, sessions: Sequence[date], context: WriteContext) -> Bars:
        """Return the stored bars of sessions (ascending, not empty)."""
        return self._transaction(lambda c: context.rows(c, symbol, timeframe).read(sessions))

    def answers(
        self, symbols: Iterable[str], timeframes: Iterable[Timeframe], days: DayRange, witness: str | None = None
    ) -> SeriesAnswers:
        """Return what is recorded of each series within the days, without series that have no record."""
        values = {
            "witness": witness,
            "symbols": list(symbols),
            "timeframes": [t.name for t in timeframes],
            "start": days.start,
            "end": days.end,
        }
        return answers_by_series(self._transaction(lambda c: c.execute(SQL["answers"], values).fetchall()))

    def first_answered(self, symbols: Iterable[str], timeframe: Timeframe, since: datetime) -> date | None:
        """Return the first session of any of the symbols whose bars arrived at `since` (aware) or later."""
        values = {"symbols": list(symbols), "timeframe": timeframe.name, "since": since}
        row: Any = self._transaction(lambda c: c.execute(SQL["first_answered"], values).fetchone())
        first: date | None = row[0]
        return first

    def any_filled(self, symbols: Iterable[str], timeframe: str | None = None) -> bool:
        """Whether bars of any of the symbols are stored, in the timeframe of that name or in any."""
        values = {"symbols": list(symbols), "timeframe": timeframe}
        row: Any = self._transaction(lambda c: c.execute(SQL["any_filled"], values).fetchone())
        return bool(row[0])


def _lock(connection: psycopg.Connection[Row], symbols: Iterable[str], timeframe: str) -> None:
    connection.execute(SQL["lock_source"], {"symbols": list(symbols), "timeframe": timeframe})


def _locked(rows: Rows) -> Rows:
    _lock(rows.connection, [rows.symbol], rows.timeframe)
    return rows


def _write(rows: Rows, answer: CompleteSessions, context: WriteContext) -> Written:
    """Store an answer in a transaction that has its series locked."""
    sessions = answer.sessions
    stored = rows.stored(sessions)
    given = {count.session for count in answer.counts}
    filled = {session: had.filled_by for session, had in stored.items() if had.filled_by}
    kept = {session: name for session, name in filled.items() if session not in given}
    written = rows.clear(sorted(set(filled) & given))
    stored = {session: had for session, had in stored.items() if session not in filled}
    own = tuple(session for session in sessions if session not in kept)
    written += rows.merge(answer.bars, fresh=not stored and not written.removed)
    lacking = rows.lacking(answer.bars, stored, written)
    removed, shrunk = _judged(answer, stored, lacking, context.attempted_at)
    written += rows.remove(removed)
    bars, counts = answer.bars, answer.counts
    if sum(map(len, lacking.values())) > len(removed):
        bars = rows.read(own)
        counts = tuple(count_by_session(bars, own, context.zone))
    doubts = answer.doubts | {
        session: f"the newer answer has {had.bars - len(lacking[session])} of {had.bars} stored bars; they are kept "
        "until another answer confirms it"
        for session, had in stored.items()
        if session in shrunk
    }
    rows.record(sessions, (*counts, *(rows.counted(sorted(kept)) if kept else ())), doubts, shrunk, kept)
    _write_derived(rows, context.derived, own, bars, context.finished)
    return written


def _judged(
    answer: CompleteSessions, stored: Mapping[date, StoredSession], lacking: Mapping[date, Int], at: datetime
) -> tuple[Int, dict[date, Shrunk]]:
    """Return which of the stored bars that are missing from an answer are removed, and the sessions of which they are kept.

    Nothing is removed from a session in doubt: a missing bar may be one of those that were left out.
    """
    removed: list[Int] = [np.empty(0, np.int64)]
    shrunk: dict[date, Shrunk] = {}
    for session, stamps in lacking.items():
        if session in answer.doubts:
            continue
        if kept := unconfirmed(stored[session].bars, stamps, at, stored[session].shrunk):
            shrunk[session] = kept
        else:
            removed.append(stamps)
    return np.concatenate(removed), shrunk


def _write_derived(
    source: Rows,
    timeframes: Sequence[Timeframe],
    sessions: Sequence[date],
    bars: Bars,
    finished: Sequence[date],
    filled_by: str | None = None,
) -> None:
    """Derive the bars of `timeframes` that overlap the sessions, and record the sessions for each.

    `bars` are the source's stored bars of exactly these sessions. `finished` are the market's finished sessions, at least
    those of the weeks that are touched: a week is derived once all of its sessions are answered, and derived again when they
    change. `filled_by` is the fallback whose bars they are.
    """
    if not sessions:
        return
    for timeframe in timeframes:
        target = _derived(source, timeframe, filled_by)
        if timeframe == WEEK_1:
            _write_weeks(source, sessions, finished)
            continue
        made = derive(bars, timeframe, source.zone)
        target.replace(made, sessions)
        counts = count_by_session(made, sessions, source.zone)
        if filled_by:
            target.record_filled(counts, filled_by)
        else:
            target.record(sessions, counts)


def _derived(source: Rows, timeframe: Timeframe, filled_by: str | None) -> Rows:
    name = f"{DERIVED}_{filled_by}" if filled_by else DERIVED
    return replace(source, timeframe=timeframe.name, source=name)


def _write_weeks(source: Rows, sessions: Sequence[date], finished: Sequence[date]) -> None:
    """Derive the weeks of sessions that are complete; a week is a fallback's if one of its days is."""
    touched = {week_start(session) for session in sessions}
    due = [session for session in finished if week_start(session) in touched]
    answered = source.answered(due)
    complete = {week_start(s) for s in due} - {week_start(s) for s in due if s not in answered}
    if not complete:
        return
    sundays = sorted(complete)
    made = derive(source.read(list(DayRange(sundays[0], week_end(sundays[-1])))), WEEK_1, source.zone)
    stamps = dict(zip(sundays, day_starts(sundays, source.zone).tolist(), strict=True))
    made = made.take(np.isin(made.timestamp, list(stamps.values())))
    fallback_of = {week_start(day): name for day, name in answered.items() if name}
    for name in {None, *fallback_of.values()}:
        if weeks := [sunday for sunday in sundays if fallback_of.get(sunday) == name]:
            target = _derived(source, WEEK_1, name)
            target.replace(made.take(np.isin(made.timestamp, [stamps[sunday] for sunday in weeks])), weeks)
    stored = set(made.timestamp.tolist())
    counts = [
        # Each session of a week is recorded with the week's bar.
        SessionBars(session, 1, instant(stamps[week_start(session)]), instant(stamps[week_start(session)]))
        for session in due
        if week_start(session) in complete and stamps[week_start(session)] in stored
    ]
    of = {s: fallback_of.get(week_start(s)) for s in due if week_start(s) in complete}
    _derived(source, WEEK_1, None).record(list(of), counts, filled_by=of)
