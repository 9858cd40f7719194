"""The record of runs.

What lives here: writing it as a run goes, and reading it back. What does not: what is recorded, and the report's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.run_record import RunEnd, RunStart

SQL = statements("backfill_assets.adapters.store", "runs.sql")

_MOST = 2**31 - 1

type Record = dict[str, Any]
"""A row, by the names of its columns."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run with what is told of it, as rows by column names."""

    run: Record
    series: tuple[Record, ...]
    gaps: tuple[Record, ...]
    restatements: tuple[Record, ...]


class RunStore(Store):
    """backfill_runs and what belongs to it."""

    def start(self, start: RunStart) -> None:
        """Note that a run begins; what an earlier attempt of the same run left is forgotten."""

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["start_run"], asdict(start))
            connection.execute(SQL["forget_details"], {"run_id": start.run_id})

        self._transaction(work)

    def finish(self, end: RunEnd) -> None:
        """Note how a run ended, and everything about it."""
        values = {
            **{name: getattr(end, name) for name in _OF_THE_RUN},
            "status": end.status.value,
            "written": sum(s.bars_written for s in end.series),
            "changed": sum(s.bars_changed for s in end.series),
            "unchanged": sum(s.bars_unchanged for s in end.series),
        }

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["forget_details"], {"run_id": end.run_id})
            connection.execute(SQL["finish_run"], values)
            with connection.cursor() as cursor:
                cursor.executemany(SQL["add_series"], _series(end))
                cursor.executemany(SQL["add_gap"], _gaps(end))
                cursor.executemany(SQL["add_restatement"], _restatements(end))

        self._transaction(work)

    def read(
        self, *, run_id: str | None = None, since: datetime | None = None, most: int | None = None
    ) -> list[RecordedRun]:
        """Runs, the newest first: the one of that id, or those that started at `since` or later, `most` of them."""
        asked = {"run_id": run_id, "since": since, "most": _MOST if most is None else most}

        def work(connection: psycopg.Connection[Row]) -> list[RecordedRun]:
            with connection.cursor(row_factory=dict_row) as cursor:
                runs = cursor.execute(SQL["runs"], asked).fetchall()
                ids = {"run_ids": [run["run_id"] for run in runs]}
                details = [cursor.execute(SQL[name], ids).fetchall() for name in _DETAILS]
            return [
                RecordedRun(run, *(tuple(r for r in rows if r["run_id"] == run["run_id"]) for rows in details))
                for run in runs
            ]

        return self._transaction(work)


_OF_THE_RUN = (
    "run_id",
    "finished_at",
    "error",
    "requests",
    "retried",
    "rate_limited",
    "gaps_before",
    "gaps_after",
)  # fmt: skip - one list of column names
_DETAILS = ("series_of", "gaps_of", "restatements_of")


def _series(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [
        (
            end.run_id,
            s.symbol,
            s.timeframe,
            s.sessions,
            s.missing_before,
            s.missing_after,
            s.bars_written,
            s.bars_changed,
            s.bars_unchanged,
            s.error,
        )
        for s in end.series
    ]  # fmt: skip - one row


def _gaps(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [
        (
            end.run_id,
            g.gap.symbol,
            g.gap.timeframe,
            g.gap.days.start,
            g.gap.days.end,
            g.gap.sessions,
            g.gap.reason.value,
            g.gap.attempts,
            g.fate.value,
            g.sessions_left,
        )
        for g in end.gaps
    ]  # fmt: skip - one row


def _restatements(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [(end.run_id, r.symbol, r.timeframe, r.first_bar, r.last_bar, r.bars) for r in end.restatements]
