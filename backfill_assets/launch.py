"""Runs that a command carries out in its own process, seen in Dagit like any other.

What lives here: the tags and config of such a run, what came of it, and ending the runs whose process is gone. What does not:
the command line, and what the run does.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
import psutil
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.assets.ohlcv_catalog import ohlcv_key
from backfill_assets.dagster_internals import create_local_run, execute_local_run
from backfill_assets.domain.answers import without_bars
from backfill_assets.domain.errors import DatabaseUnavailable, NotEntitled, SettingMistake
from backfill_assets.domain.universe import Symbol
from backfill_assets.partitions import partition_key
from backfill_assets.pipelines.ohlcv import SeriesFailed
from backfill_assets.pipelines.orders import Order
from backfill_assets.run_tags import HOST_TAG, PROCESS_TAG, TRIGGER_TAG

_UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
# A process's start time as the kernel tells it, to tell it from a later one with the same id.
_SAME_START_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; `error` is one sentence where it failed, `kind` the name of its type."""

    run_id: str
    error: str | None = None
    kind: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether it did not go through all that it was asked for."""
        return not self.succeeded and self.kind != SeriesFailed.__name__

    @property
    def concerns_every_market(self) -> bool:
        """Whether the next market's run would end like it."""
        return self.ended_early and self.kind != NotEntitled.__name__

    @property
    def succeeded(self) -> bool:
        """Whether all that was asked for was answered."""
        return self.error is None


def require_project(settings: Settings) -> None:
    """Raise SettingMistake where the project's folder is none, before anything is made there."""
    for name in ("dagster.yaml", "workspace.yaml"):
        if not (settings.project / name).is_file():
            raise SettingMistake(
                f"{settings.project} holds no {name}: run this in the project's folder, or set DAGSTER_HOME to it."
            )


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance of the project's dagster.yaml."""
    return dg.DagsterInstance.from_config(str(settings.project))


def carry_out(
    instance: dg.DagsterInstance, defs: dg.Definitions, settings: Settings, order: Order, max_concurrent: int
) -> Outcome:
    """Fill an order as one Dagster run of its market's job, in this process.

    The run targets the rectangle of sessions x symbols around the order, which is what a range of partitions can say; its
    config names the symbols that are meant.
    """
    days = order.days
    if days is None:
        raise ValueError("an order without sessions has nothing to run")
    job = defs.resolve_job_def(f"{order.market.name}_ohlcv_job")
    first, last = _corners(order, days.start, days.end)
    narrowed = {"symbols": [s.name for s in order.wanted]} if len(order.wanted) < len(order.market.symbols) else {}
    run = create_local_run(
        instance,
        job,
        settings.project / "workspace.yaml",
        assets=frozenset(ohlcv_key(order.market, t) for t in order.timeframes),
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
            # Whoever started it sees that it failed, and runs the same command again.
            "dagster/max_retries": "0",
            TRIGGER_TAG: "command line",
            HOST_TAG: socket.gethostname(),
            PROCESS_TAG: _this_process(),
        },
        run_config={
            "ops": {
                f"{order.market.name}_ohlcv": {
                    "config": {"max_concurrent": max_concurrent, "refresh": order.refresh.name, **narrowed}
                }
            },
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
    )
    try:
        succeeded = execute_local_run(instance, job, run)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    except (DagsterPostgresException, DBAPIError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DatabaseUnavailable(
            f"Dagster's records could not be written ({reason}); start the database again."
        ) from None
    ended = instance.get_run_by_id(run.run_id)
    if ended is not None and ended.status is dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    return Outcome(run.run_id) if succeeded else _failure(instance, run.run_id)


def _corners(order: Order, start: date, end: date) -> tuple[str, str]:
    symbols: Sequence[Symbol] = [s for s in order.market.symbols if s in order.wanted]
    return partition_key(start, symbols[0]), partition_key(end, symbols[-1])


def _failure(instance: dg.DagsterInstance, run_id: str) -> Outcome:
    """The innermost cause of the run's failure, without its stack."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        if event is None:
            continue
        error = event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            sentence = " ".join(error.message.split(": ", 1)[-1].split())
            return Outcome(run_id, sentence, error.cls_name or "")
    return Outcome(run_id, "The run ended without a word; see its log in Dagit.")


def all_shown(instance: dg.DagsterInstance, order: Order, answers: SeriesAnswers) -> bool:
    """Whether Dagster already shows every wanted session that has bars as materialized."""
    for timeframe in order.timeframes:
        shown = instance.get_materialized_partitions(ohlcv_key(order.market, timeframe))
        for symbol, sessions in order.wanted.items():
            recorded = answers.get((symbol.name, timeframe.name), {})
            gone = set(without_bars(sessions, recorded))
            if any(partition_key(s, symbol) not in shown for s in sessions if s not in gone):
                return False
    return True


def end_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark failed the runs of this machine's commands whose process is gone; how many there were."""
    mine = dg.RunsFilter(statuses=_UNFINISHED, tags={HOST_TAG: socket.gethostname()})
    dead = [run for run in instance.get_runs(filters=mine) if not _alive(run.tags.get(PROCESS_TAG, ""))]
    for run in dead:
        instance.report_run_failed(run, "The process that carried this run out is gone; what it stored stays.")
    return len(dead)


def _this_process() -> str:
    me = psutil.Process()
    return f"{me.pid}@{me.create_time():.2f}"


def _alive(process: str) -> bool:
    pid, _, started = process.partition("@")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < _SAME_START_SECONDS
    except (psutil.Error, ValueError):
        return False
