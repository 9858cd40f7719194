"""The record of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.runs import RunEnd, RunStart, RunStatus

SQL = statements("backfill_assets.adapters.store", "runs.sql")

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
            connection.execute(SQL["forget_details"], _key(start))

        self._transaction(work)

    def finish(self, end: RunEnd) -> None:
        """Note how a run ended, and everything about it."""
        values = {
            **{name: getattr(end, name) for name in _OF_THE_RUN},
            **_key(end.run),
            "status": end.status.value,
            "written": sum(s.bars_written for s in end.series),
            "changed": sum(s.bars_changed for s in end.series),
            "unchanged": sum(s.bars_unchanged for s in end.series),
            "features": sum(s.features_written for s in end.series),
        }

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["forget_details"], _key(end.run))
            connection.execute(SQL["finish_run"], values)
            with connection.cursor() as cursor:
                cursor.executemany(SQL["add_series"], _series(end))
                cursor.executemany(SQL["add_gap"], _gaps(end))
                cursor.executemany(SQL["add_restatement"], _restatements(end))

        self._transaction(work)

    def unfinished(self) -> list[str]:
        """The ids of the runs that stand as going on."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["unfinished_runs"]).fetchall())
        return [run_id for (run_id,) in rows]

    def abandon(self, run_id: str, at: datetime, status: RunStatus, error: str | None) -> int:
        """Note of a run that stands as going on how it ended, all else of it being unknown; how many rows that were."""
        values = {"run_id": run_id, "finished_at": at, "status": status.value, "error": error}
        return self._transaction(lambda c: c.execute(SQL["abandon_run"], values).rowcount)

    def read(self, *, run_id: str | None = None, since: datetime | None = None) -> list[RecordedRun]:
        """Runs, the newest first: those of that id, or those that started at `since` or later."""
        return self._told("runs", {"run_id": run_id, "since": since})

    def last(self) -> list[RecordedRun]:
        """The last run of each market and kind of work, the newest first."""
        return self._told("last_runs", {})

    def _told(self, statement: str, asked: Mapping[str, object]) -> list[RecordedRun]:
        def work(connection: psycopg.Connection[Row]) -> list[RecordedRun]:
            with connection.cursor(row_factory=dict_row) as cursor:
                runs = cursor.execute(SQL[statement], asked).fetchall()
                ids = {"run_ids": [run["run_id"] for run in runs]}
                details = [_by_run(cursor.execute(SQL[name], ids).fetchall()) for name in _DETAILS]
            return [RecordedRun(run, *(tuple(rows.get(_of(run), ())) for rows in details)) for run in runs]

        return self._transaction(work)


_OF_THE_RUN = (
    "finished_at",
    "error",
    "requests",
    "retried",
    "rate_limited",
    "gaps_before",
    "gaps_after",
)  # fmt: skip - one list of column names
_DETAILS = ("series_of", "gaps_of", "restatements_of")


def _key(run: RunStart) -> dict[str, str]:
    return {"run_id": run.run_id, "kind": run.kind.value, "market": run.market}


def _of(row: Record) -> tuple[str, str, str]:
    return row["run_id"], row["kind"], row["market"]


def _by_run(rows: Iterable[Record]) -> dict[tuple[str, str, str], list[Record]]:
    found: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        found.setdefault(_of(row), []).append(row)
    return found


def _series(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [
        (
            *_key(end.run).values(),
            s.symbol,
            s.timeframe,
            s.sessions,
            s.missing_before,
            s.missing_after,
            s.bars_written,
            s.bars_changed,
            s.bars_unchanged,
            s.features_written,
            s.error,
        )
        for s in end.series
    ]  # fmt: skip - one row


def _gaps(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [
        (
            *_key(end.run).values(),
            g.gap.symbol,
            g.gap.timeframe,
            g.gap.days.start,
            g.gap.days.end,
            g.gap.sessions,
            g.gap.reason.value,
            g.gap.attempts,
            g.outcome.value,
            g.sessions_left,
        )
        for g in end.gaps
    ]  # fmt: skip - one row


def _restatements(end: RunEnd) -> Sequence[tuple[object, ...]]:
    return [(*_key(end.run).values(), r.symbol, r.timeframe, r.first_bar, r.last_bar, r.bars) for r in end.restatements]
