"""The record of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import psycopg
from psycopg.rows import dict_row

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.runs import RunEnd, RunStart, RunStatus

SQL = statements("backfill_assets.adapters.store", "runs.sql")

type Record = dict[str, Any]
"""A row by column names."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run with its details, as rows by column names."""

    run: Record
    series: tuple[Record, ...]
    gaps: tuple[Record, ...]
    restatements: tuple[Record, ...]
    rejected: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums over the runs of a market of one kind with one status; `rows` are bars and features written."""

    market: str
    kind: str
    status: str
    runs: int
    requests: int
    retried: int
    rate_limited: int
    rows: int
    seconds: float


class RunStore(Store):
    """The tables `backfill_run…`."""

    def start(self, start: RunStart) -> None:
        """Record the start of a run, and delete the details of an earlier attempt."""

        def work(connection: psycopg.Connection[Row]) -> None:
            connection.execute(SQL["start_run"], asdict(start))
            connection.execute(SQL["forget_details"], _key(start))

        self._transaction(work)

    def finish(self, end: RunEnd) -> None:
        """Record the end of a run with its details."""
        values = {
            **{name: getattr(end, name) for name in _COLUMNS},
            **_key(end.run),
            "status": end.status.value,
            "written": sum(s.bars_written for s in end.series),
            "changed": sum(s.bars_changed for s in end.series),
            "unchanged": sum(s.bars_unchanged for s in end.series),
            "removed": sum(s.bars_removed for s in end.series),
            "features": sum(s.features_written for s in end.series),
        }

        def work(connection: psycopg.Connection[Row]) -> None:
            key = _key(end.run).values()
            connection.execute(SQL["forget_details"], values)
            connection.execute(SQL["finish_run"], values)
            with connection.cursor() as cursor:
                cursor.executemany(SQL["add_series"], [(*key, *_SERIES(s)) for s in end.series])
                cursor.executemany(SQL["add_gap"], [(*key, *_GAP(g)) for g in end.gaps])
                cursor.executemany(SQL["add_restatement"], [(*key, *_RESTATEMENT(r)) for r in end.restatements])
                cursor.executemany(SQL["add_rejected"], [(*key, *_REJECTED(r)) for r in end.rejected])

        self._transaction(work)

    def beat(self, start: RunStart, requests: int, planned: int | None) -> None:
        """Record that the process of a run is alive, by the database's clock, and the requests it has sent and planned."""
        values = {**_key(start), "requests": requests, "planned_requests": planned}
        self._transaction(lambda c: c.execute(SQL["beat"], values))

    def silence(self, run_id: str) -> timedelta | None:
        """Return how long ago the process of a run was last seen alive, None if it never was."""
        row: Any = self._transaction(lambda c: c.execute(SQL["silence"], {"run_id": run_id}).fetchone())
        return None if row[0] is None else timedelta(seconds=row[0])

    def newest_requests(self) -> list[tuple[str, RunStatus, datetime]]:
        """Return id, status and end (UTC) of the last runs that sent requests, newest first."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["newest_requests"]).fetchall())
        return [(run_id, RunStatus(status), at.astimezone(UTC)) for run_id, status, at in rows]

    def unfinished(self) -> list[str]:
        """Return the ids of runs without a recorded end."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["unfinished_runs"]).fetchall())
        return [run_id for (run_id,) in rows]

    def abandon(self, run_id: str, at: datetime, status: RunStatus, error: str | None) -> int:
        """Record the end of a run without details, if it has no recorded end; return the number of rows."""
        values = {"run_id": run_id, "finished_at": at, "status": status.value, "error": error}
        return self._transaction(lambda c: c.execute(SQL["abandon_run"], values).rowcount)

    def read(self, *, run_id: str | None = None, since: datetime | None = None) -> list[RecordedRun]:
        """Return the runs of an id, or since a time, newest first."""
        return self._read("runs", {"run_id": run_id, "since": since})

    def last(self) -> list[RecordedRun]:
        """Return the last run of each market and kind, newest first."""
        return self._read("last_runs", {})

    def running(self) -> list[Record]:
        """Return the runs that have not ended, with the number of `sessions` answered since they started, in all markets."""

        def work(connection: psycopg.Connection[Row]) -> list[Record]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(SQL["running"]).fetchall()

        return self._transaction(work)

    def totals(self) -> list[RunTotals]:
        """Return the sums over all recorded runs."""
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["run_totals"]).fetchall())
        return [RunTotals(*row) for row in rows]

    def _read(self, statement: str, values: Mapping[str, object]) -> list[RecordedRun]:
        def work(connection: psycopg.Connection[Row]) -> list[RecordedRun]:
            with connection.cursor(row_factory=dict_row) as cursor:
                runs = cursor.execute(SQL[statement], values).fetchall()
                ids = {"run_ids": [run["run_id"] for run in runs]}
                details = [_by_run(cursor.execute(SQL[name], ids).fetchall()) for name in _DETAILS]
            return [RecordedRun(run, *(tuple(rows.get(_run_key(run), ())) for rows in details)) for run in runs]

        return self._transaction(work)


_COLUMNS = (
    "finished_at",
    "error",
    "requests",
    "retried",
    "rate_limited",
    "gaps_before",
    "gaps_after",
    "planned_requests",
)
_SERIES = attrgetter(
    *("symbol", "timeframe", "sessions", "missing_before", "missing_after"),
    *("bars_written", "bars_changed", "bars_unchanged", "bars_removed", "bars_rejected", "features_written", "error"),
)
_GAP = attrgetter(
    *(
        "gap.symbol",
        "gap.timeframe",
        "gap.days.start",
        "gap.days.end",
        "gap.sessions",
        "gap.reason.value",
        "gap.attempts",
    ),
    *("outcome.value", "sessions_left"),
)
_RESTATEMENT = attrgetter("symbol", "timeframe", "first_bar", "last_bar", "bars", "bars_removed")
_REJECTED = attrgetter("symbol", "timeframe", "bar.session", "bar.start", "bar.reason")
_DETAILS = ("series_of", "gaps_of", "restatements_of", "rejected_of")


def _key(run: RunStart) -> dict[str, str]:
    return {"run_id": run.run_id, "kind": run.kind.value, "market": run.market}


def _run_key(row: Record) -> tuple[str, str, str]:
    return row["run_id"], row["kind"], row["market"]


def _by_run(rows: Iterable[Record]) -> dict[tuple[str, str, str], list[Record]]:
    found: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        found.setdefault(_run_key(row), []).append(row)
    return found
