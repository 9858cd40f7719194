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
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.days import ONE_DAY, ranges_of
from backfill_assets.domain.sessions import SessionBars, day_starts
from backfill_assets.domain.timeframes import MINUTE_1

SQL = statements("backfill_assets.adapters.store", "bars.sql")


@dataclass(frozen=True, slots=True)
class Restated:
    """Bars of one day (UTC) that a later answer changed: starts of the first and the last of them, and their number."""

    first: datetime
    last: datetime
    bars: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did to market_data: rows inserted, rows whose values changed, rows left unchanged."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    restated: tuple[Restated, ...] = field(default=(), compare=False)
    """The changed rows, by day."""

    def __add__(self, other: Written) -> Written:
        return Written(
            self.inserted + other.inserted,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.restated + other.restated,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """One series on one connection.

    zone         the market's, which bounds a session
    attempted_at  the instant of the attempt that fetched the rows, UTC
    first_pause  the pause after which a second attempt counts, see `domain.retries`
    """

    connection: psycopg.Connection[Row]
    symbol: str
    timeframe: str
    zone: ZoneInfo
    attempted_at: datetime
    first_pause: timedelta

    def merge(self, bars: Bars, source: str) -> Written:
        """Insert ordered bars and update those whose values differ; the others are not touched."""
        if not len(bars):
            return Written()
        if not self._any_between(bars):
            with self.connection.cursor() as cursor, cursor.copy(SQL["copy_bars"]) as copy:
                copy.write(copy_block(bars, (self.symbol, self.timeframe, source), nulls=True))
            self._mark([instant(bars.timestamp[0])], [instant(bars.timestamp[-1])])
            return Written(inserted=len(bars))
        self.connection.execute(SQL["make_stage"])
        self.connection.execute(SQL["clear_stage"])
        with self.connection.cursor() as cursor, cursor.copy(SQL["copy_stage"]) as copy:
            copy.write(copy_block(bars))
        days: list[Any] = self._all("merge", source=source)
        if days:
            self._mark([day[0] for day in days], [day[1] for day in days])
        inserted, changed = sum(day[2] for day in days), sum(day[3] for day in days)
        restated = tuple(Restated(day[4], day[5], day[3]) for day in days if day[3])
        return Written(inserted, changed, len(bars) - inserted - changed, restated)

    def record(
        self, sessions: Sequence[date], counts: Sequence[SessionBars], doubts: Mapping[date, str] | None = None
    ) -> bool:
        """Record answered sessions, those in `counts` with bars; return whether any of them had bars before.

        `doubts` are the reasons why sessions are not taken as complete.
        """
        by_day = {c.session: c for c in counts}
        rows = [by_day.get(s) for s in sessions]
        recorded: list[Any] = self._all(
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
        )
        filled = ranges_of(by_day)
        if filled:
            bounds = {"starts": [r.start for r in filled], "ends": [r.end for r in filled]}
            self.connection.execute(SQL["cover"], self._series | bounds)
        return any(seen_before for _, seen_before in recorded)

    def record_failures(self, sessions: Sequence[date], *, refused: bool) -> None:
        """Record that finished sessions could not be fetched, or are not in the vendor's plan."""
        self._all(
            "record_failures",
            sessions=list(sessions),
            refused=refused,
            attempted_at=self.attempted_at,
            first_pause=self.first_pause,
        )

    def recount(self, sessions: Sequence[date]) -> None:
        """Count and summarize what the table holds of sessions: several answers may each have added bars of their own."""
        starts, ends = day_starts(sessions, self.zone), day_starts([s + ONE_DAY for s in sessions], self.zone)
        bounds = {"starts": [instant(ms) for ms in starts], "ends": [instant(ms) for ms in ends]}
        self.connection.execute(SQL["recount_sessions"], self._series | {"sessions": list(sessions)} | bounds)

    def answered(self, sessions: Sequence[date]) -> set[date]:
        """Return those of the sessions that were answered, with or without bars, or refused."""
        return {row[0] for row in self._all("answered_sessions", sessions=list(sessions))}  # type: ignore[misc]  # a date

    def read(self, first: date, last: date) -> Bars:
        """Return the stored bars of the days from `first` to `last`, ascending."""
        start, end = day_starts([first, last + ONE_DAY], self.zone)
        rows: list[Any] = self._all("bars_between", starts=instant(start), ends=instant(end))
        if not rows:
            return Bars.empty()
        stamp, *prices, trades = zip(*rows, strict=True)
        floats = [np.array([np.nan if v is None else v for v in column], np.float64) for column in prices]
        known = np.array([NO_TRADES if t is None else t for t in trades], np.int64)
        columns: list[Any] = [np.array(stamp, np.int64), *floats, known]
        return Bars(*columns)

    def _mark(self, first: Sequence[datetime], last: Sequence[datetime]) -> None:
        """Mark as stale the features that depend on bars between each first and last."""
        mark_rows(self.connection, self.symbol, self.timeframe, first, last, self.zone)

    @property
    def _series(self) -> dict[str, Any]:
        return {"symbol": self.symbol, "timeframe": self.timeframe}

    def _any_between(self, bars: Bars) -> bool:
        row: Any = self._one("any_between", first=instant(bars.timestamp[0]), last=instant(bars.timestamp[-1]))
        return bool(row[0])

    def _one(self, statement: str, **values: object) -> Row | None:
        return self.connection.execute(SQL[statement], self._series | values).fetchone()

    def _all(self, statement: str, **values: object) -> list[Row]:
        done = self.connection.execute(SQL[statement], self._series | values)
        return done.fetchall() if done.description else []


def instant(ms: int | np.int64) -> datetime:
    """Convert milliseconds since the epoch to an aware datetime."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


type SeriesAnswers = Mapping[tuple[str, str], Answers]
"""By symbol and timeframe name, then by session."""


def answers_by_series(rows: Iterable[Any]) -> SeriesAnswers:
    """Group rows of session_answers: symbol, timeframe, and the columns of SessionAnswer."""
    found: dict[tuple[str, str], dict[date, SessionAnswer]] = defaultdict(dict)
    for symbol, timeframe, *answer in rows:
        found[symbol, timeframe][answer[0]] = SessionAnswer(*answer)
    return dict(found)
