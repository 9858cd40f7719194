"""Read and write the rows of one series within an open transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.copy_format import copy_block
from backfill_assets.adapters.store.feature_marks import mark_rows
from backfill_assets.domain.answers import Answers, SessionAnswer
from backfill_assets.domain.bars import NO_TRADES, Bars, Int
from backfill_assets.domain.days import ONE_DAY, ranges_of
from backfill_assets.domain.retries import Shrunk
from backfill_assets.domain.sessions import SessionBars, day_starts, session_rows
from backfill_assets.domain.timeframes import MINUTE_1

SQL = statements("backfill_assets.adapters.store", "bars.sql")
_LOCK_FEATURES = statements("backfill_assets.adapters.store", "features.sql")["lock_features"]

DERIVED = "derived"
"""The value of the column `source` for derived bars; of a fallback's, `derived_` and its name follow."""


@dataclass(frozen=True, slots=True)
class Restated:
    """Bars of one day (UTC) that a later answer changed or removed: starts of the first and the last, and their number."""

    first: datetime
    last: datetime
    bars: int
    removed: int = 0
    """How many of them were removed: none or all."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did to market_data: rows inserted, rows whose values changed, rows left unchanged, rows removed."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    restated: tuple[Restated, ...] = field(default=(), compare=False)
    """The changed and the removed rows, by day."""

    def __add__(self, other: Written) -> Written:
        return Written(
            self.inserted + other.inserted,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.removed + other.removed,
            self.restated + other.restated,
        )


@dataclass(frozen=True, slots=True)
class StoredSession:
    """How many bars of a session are stored, whether the last answer lacked too many of them to be followed, and the fallback
    whose bars they are, if they are not the vendor's.
    """

    bars: int
    shrunk: Shrunk | None
    filled_by: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """One series on one connection.

    zone         the market's, which bounds a session
    attempted_at  the instant of the attempt that fetched the rows, UTC
    first_pause  the pause after which a second attempt counts, see `domain.retries`
    source       the value of the column `source`; the earlier values of derived bars are not kept
    run_id       of the run that writes, for the history
    """

    connection: psycopg.Connection[Row]
    symbol: str
    timeframe: str
    zone: ZoneInfo
    attempted_at: datetime
    first_pause: timedelta
    source: str
    run_id: str | None = None

    def stored(self, sessions: Sequence[date]) -> dict[date, StoredSession]:
        """Return what is stored of the sessions, without those that have no bars."""
        starts, ends = day_starts(sessions, self.zone), day_starts([s + ONE_DAY for s in sessions], self.zone)
        rows: list[Any] = self._all(
            "stored_sessions",
            sessions=list(sessions),
            starts=[instant(ms) for ms in starts],
            ends=[instant(ms) for ms in ends],
        )
        return {
            session: StoredSession(bars, Shrunk(shrunk_at, shrunk_digest) if shrunk_at else None, filled_by)
            for session, bars, shrunk_at, shrunk_digest, filled_by in rows
        }

    def merge(self, bars: Bars, *, fresh: bool = False) -> Written:
        """Insert ordered bars and update those whose values differ; the others are not touched.

        `fresh`: none of their sessions has, or had in this transaction, stored bars, whose history would overlap with them.
        UniqueViolation if that is not so.
        """
        if not len(bars):
            return Written()
        if fresh:
            with self.connection.cursor() as cursor, cursor.copy(SQL["copy_bars"]) as copy:
                copy.write(copy_block(bars, (self.symbol, self.timeframe, self.source), nulls=True))
            self._mark([instant(bars.timestamp[0])], [instant(bars.timestamp[-1])])
            return Written(inserted=len(bars))
        self.connection.execute(SQL["make_stage"])
        self.connection.execute(SQL["clear_stage"])
        with self.connection.cursor() as cursor, cursor.copy(SQL["copy_stage"]) as copy:
            copy.write(copy_block(bars))
        days: list[Any] = self._all("merge", source=self.source, **self._history)
        if days:
            self._mark([day[0] for day in days], [day[1] for day in days])
        inserted, changed = sum(day[2] for day in days), sum(day[3] for day in days)
        restated = tuple(Restated(day[4], day[5], day[6]) for day in days if day[6])
        return Written(inserted, changed, len(bars) - inserted - changed, restated=restated)

    def remove(self, stamps: Int) -> Written:
        """Remove bars by their starts (milliseconds since the epoch UTC), and their features."""
        if not len(stamps):
            return Written()
        # A computation that has read the bars ends first, or it would write their features afterwards.
        self.connection.execute(_LOCK_FEATURES, self._series)
        days: list[Any] = self._all("remove", stamps=[instant(ms) for ms in stamps], **self._history)
        self._mark([day[0] for day in days], [day[1] for day in days])
        restated = tuple(Restated(first, last, bars, bars) for first, last, bars in days)
        return Written(removed=sum(day[2] for day in days), restated=restated)

    def clear(self, sessions: Sequence[date]) -> Written:
        """Remove all bars of sessions (ascending)."""
        return self.remove(self.read(sessions).timestamp) if sessions else Written()

    def replace(self, bars: Bars, sessions: Sequence[date]) -> None:
        """Make the stored bars of sessions equal to ordered bars."""
        stored = self.stored(sessions)
        written = self.merge(bars, fresh=not stored)
        for lacking in self.lacking(bars, stored, written).values():
            self.remove(lacking)

    def lacking(self, bars: Bars, stored: Mapping[date, StoredSession], written: Written) -> dict[date, Int]:
        """Return the starts of stored bars that are not among `bars`, by session, in milliseconds since the epoch UTC.

        `stored` is what was stored before the merge of `bars`, and `written` its result.
        """
        if sum(session.bars for session in stored.values()) == written.changed + written.unchanged:
            return {}
        sessions = sorted(stored)
        stamps = self.read(sessions).timestamp
        stamps = stamps[~np.isin(stamps, bars.timestamp)]
        rows = np.searchsorted(day_starts(sessions, self.zone), stamps, side="right") - 1
        return {sessions[row]: stamps[rows == row] for row in np.unique(rows).tolist()}

    def record(
        self,
        sessions: Sequence[date],
        counts: Sequence[SessionBars],
        doubts: Mapping[date, str] | None = None,
        shrunk: Mapping[date, Shrunk] | None = None,
        filled_by: Mapping[date, str | None] | None = None,
    ) -> None:
        """Record answered sessions; `counts` are those that now have bars.

        `doubts` are the reasons why sessions are not taken as complete, `shrunk` the sessions of which bars are kept that are
        missing from the answer, `filled_by` those that keep the bars of a fallback.
        """
        by_day = {c.session: c for c in counts}
        rows = [by_day.get(s) for s in sessions]
        kept = [(shrunk or {}).get(s) for s in sessions]
        self._all(
            "record_sessions",
            attempted_at=self.attempted_at,
            first_pause=self.first_pause,
            sessions=list(sessions),
            bars=[r.bars if r else 0 for r in rows],
            first=[r.first if r else None for r in rows],
            last=[r.last if r else None for r in rows],
            doubts=[(doubts or {}).get(s) for s in sessions],
            volume=[r.volume if r else None for r in rows],
            half_hours=[r.half_hours if r and self.timeframe == MINUTE_1.name else None for r in rows],
            shrunk_at=[k.at if k else None for k in kept],
            shrunk_digest=[k.digest if k else None for k in kept],
            filled_by=[(filled_by or {}).get(s) for s in sessions],
        )
        self._cover("cover", by_day)
        self._cover("uncover", set(sessions) - set(by_day))

    def record_filled(self, counts: Sequence[SessionBars], fallback: str) -> None:
        """Record sessions that have bars of a fallback."""
        self._all(
            "record_filled",
            attempted_at=self.attempted_at,
            fallback=fallback,
            half_hours=[c.half_hours if self.timeframe == MINUTE_1.name else None for c in counts],
            **_columns(counts),
        )
        self._cover("cover", [c.session for c in counts])

    def _cover(self, statement: str, days: Iterable[date]) -> None:
        if ranges := ranges_of(days):
            self._all(statement, starts=[r.start for r in ranges], ends=[r.end for r in ranges])

    def record_failures(self, sessions: Sequence[date], *, refused: bool) -> None:
        """Record that finished sessions could not be fetched, or are not in the vendor's plan."""
        self._all(
            "record_failures",
            sessions=list(sessions),
            refused=refused,
            attempted_at=self.attempted_at,
            first_pause=self.first_pause,
        )

    def counted(self, sessions: Sequence[date]) -> list[SessionBars]:
        """Count and summarize what the table holds of sessions."""
        starts, ends = day_starts(sessions, self.zone), day_starts([s + ONE_DAY for s in sessions], self.zone)
        bounds = {"starts": [instant(ms) for ms in starts], "ends": [instant(ms) for ms in ends]}
        rows: list[Any] = self._all("count_sessions", sessions=list(sessions), **bounds)
        return [SessionBars(*row) for row in rows]

    def recount(self, counts: Sequence[SessionBars]) -> None:
        """Record what `counted` found."""
        self._all("recount_sessions", half_hours=[c.half_hours for c in counts], **_columns(counts))

    def answered(self, sessions: Sequence[date]) -> dict[date, str | None]:
        """Return those of the sessions that were answered, with or without bars, or filled; and the fallback that did."""
        rows: list[Any] = self._all("answered_sessions", sessions=list(sessions))
        return dict(rows)

    def of_vendor(self, sessions: Sequence[date]) -> set[date]:
        """Return those of the sessions that have bars of the vendor."""
        rows: list[Any] = self._all("vendors_sessions", sessions=list(sessions))
        return {row[0] for row in rows}

    def read(self, sessions: Sequence[date]) -> Bars:
        """Return the stored bars of sessions (ascending, not empty), ascending."""
        start, end = day_starts([sessions[0], sessions[-1] + ONE_DAY], self.zone)
        rows: list[Any] = self._all("bars_between", starts=instant(start), ends=instant(end))
        if not rows:
            return Bars.empty()
        stamp, *prices, trades = zip(*rows, strict=True)
        floats = [np.array([np.nan if v is None else v for v in column], np.float64) for column in prices]
        known = np.array([NO_TRADES if t is None else t for t in trades], np.int64)
        columns: list[Any] = [np.array(stamp, np.int64), *floats, known]
        bars = Bars(*columns)
        return bars.take(session_rows(bars.timestamp, sessions, self.zone) >= 0)

    def _mark(self, first: Sequence[datetime], last: Sequence[datetime]) -> None:
        """Mark as stale the features that depend on bars between each first and last."""
        mark_rows(self.connection, self.symbol, self.timeframe, first, last, self.zone)

    @property
    def _series(self) -> dict[str, Any]:
        return {"symbol": self.symbol, "timeframe": self.timeframe}

    @property
    def _history(self) -> dict[str, Any]:
        return {"kept": not self.source.startswith(DERIVED), "run_id": self.run_id}

    def _all(self, statement: str, **values: object) -> list[Row]:
        done = self.connection.execute(SQL[statement], self._series | values)
        return done.fetchall() if done.description else []


def _columns(counts: Sequence[SessionBars]) -> dict[str, list[Any]]:
    return {
        "sessions": [c.session for c in counts],
        "bars": [c.bars for c in counts],
        "first": [c.first for c in counts],
        "last": [c.last for c in counts],
        "volume": [c.volume for c in counts],
    }


def instant(ms: int | np.int64) -> datetime:
    """Convert milliseconds since the epoch to an aware datetime."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


type SeriesAnswers = Mapping[tuple[str, str], Answers]
"""By symbol and timeframe name, then by session."""


def answers_by_series(rows: Iterable[Any]) -> SeriesAnswers:
    """Group rows of session_answers: symbol, timeframe, and the columns of SessionAnswer."""
    found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
    for symbol, timeframe, *answer, due, witnessed in rows:
        due_at = {name: datetime.fromtimestamp(seconds, UTC) for name, seconds in due.items()} if due else None
        columns: list[Any] = [*answer, due_at, witnessed]
        found[symbol, timeframe][answer[0]] = SessionAnswer(*columns)
    return dict(found)
