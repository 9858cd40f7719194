"""The sensor that repairs gaps by launching backfills of missing partitions.

Dagster reads the annotations of the body as objects: no `from __future__ import annotations` here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from backfill_assets.adapters.processes import identity
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.deployment.private_api import (
    UnfinishedBackfill,
    launch_backfill,
    records_needed,
    unfinished_backfills,
)
from backfill_assets.deployment.runs import REPAIR_TAG, TRIGGER_TAG, end_dead_runs, key_refusal
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.orchestration.in_flight import busy_days, repair_in_progress
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.gaps import Watched, find_gaps
from backfill_assets.pipelines.listings import known_listings
from backfill_assets.pipelines.repair import Tried, choose

NAME = "gap_repair"
EVERY_SECONDS = 30

SENSOR_TAG = "dagster/sensor_name"
"""Dagster's own: the UI shows what launched a backfill by this tag; without it, it names a user."""

REFUSED_PAUSE = timedelta(hours=1)
"""Between repairs with a key that the vendor has refused. A new process, which may have another key, tries at once."""

type Memory = dict[str, dict[str, Tried]]
"""By market and symbol."""


def gap_repair_sensor(universe: Universe, calendars: Mapping[str, Calendar]) -> dg.SensorDefinition:
    """Define one sensor for all markets, on by default. `calendars` by market name."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches backfills of missing sessions that are due: each symbol from its first due session to its "
        "last. Waits while runs cover them and between attempts. A backfill whose run succeeded is shown as failed if the "
        "vendor has nothing for a session: its partition stays missing.",
    )
    @records_needed()
    def gap_repair(context: dg.SensorEvaluationContext, clock: Clock, store: MarketStore) -> dg.SensorResult:
        settings = Settings.read()
        if settings.api_key is None:
            return dg.SensorResult(
                skip_reason="POLYGON_API_KEY is not set: gaps are not repaired.", cursor=context.cursor
            )
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor needs its repository")
        process, memory = _read(context.cursor)
        me, sentences = identity(os.getpid()), []
        with GapStore(store.url(), connections=1) as gaps:
            runs = RunStore.beside(gaps)
            end_dead_runs(context.instance, runs)
            backfills = unfinished_backfills(context.instance, repository)
            refusal = key_refusal(context.instance, runs)
            if refusal and process == me and clock.now() < (until := refusal.at + REFUSED_PAUSE):
                # Attempts that the key prevented do not count.
                return dg.SensorResult(
                    skip_reason=f"The API key is refused: repair waits until {until:%Y-%m-%d %H:%M} UTC, or until "
                    "`backfill up` is started with another POLYGON_API_KEY.",
                    cursor=_written(me, {}),
                )
            for market in universe.markets:
                watched = Watched(market, calendars[market.name], known_listings(gaps, market), settings.retries)
                tried = memory.get(market.name, {})
                sentence, memory[market.name] = _repair(
                    context.instance, repository, gaps, watched, backfills, tried, clock.now()
                )
                sentences.append(f"{market.name}: {sentence}.")
        return dg.SensorResult(skip_reason=" ".join(sentences), cursor=_written(me, memory))

    return gap_repair


def _repair(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    store: GapStore,
    watched: Watched,
    backfills: Sequence[UnfinishedBackfill],
    tried: dict[str, Tried],
    now: datetime,
) -> tuple[str, dict[str, Tried]]:
    """Launch what a market needs; return what was done or is waited for, and what to remember."""
    market = watched.market
    gaps = find_gaps(store, watched, now)
    if repair := repair_in_progress(backfills, market):
        return f"repair {repair} is in progress", tried
    choice = choose(gaps, now, busy_days(instance, backfills, market), tried, watched.retries)
    done = list(choice.waiting)
    if choice.repairs:
        launched = _launch(instance, repository, market, choice.repairs, now)
        done.insert(0, f"backfill {launched} repairs {', '.join(f'{s} {d}' for s, d in choice.repairs.items())}")
    return "; ".join(done) or "nothing is missing", dict(choice.tried)


def _launch(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    market: Market,
    repairs: Mapping[str, DayRange],
    now: datetime,
) -> str:
    symbols = [market.symbol(name) for name in repairs]
    ranges = [(repairs[s.name].start, repairs[s.name].end, s) for s in symbols]
    return launch_backfill(
        instance,
        repository,
        [ohlcv_key(market, t) for t in market.timeframes],
        [(partition_key(start, s), partition_key(end, s)) for start, end, s in ranges],
        title=f"Repair of {market.name} gaps",
        tags={REPAIR_TAG: market.name, TRIGGER_TAG: "gap repair", SENSOR_TAG: NAME},
        at=now,
    )


def _read(cursor: str | None) -> tuple[str, Memory]:
    """Return the process that wrote the cursor, and the attempts that it records; an unreadable cursor is ignored."""
    try:
        stored = json.loads(cursor or "{}")
        return stored["process"], {
            market: {s: Tried(t["state"], t["times"], datetime.fromisoformat(t["at"])) for s, t in symbols.items()}
            for market, symbols in stored["tried"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def _written(process: str, memory: Memory) -> str:
    tried = {
        market: {s: {"state": t.state, "times": t.times, "at": t.at.isoformat()} for s, t in symbols.items()}
        for market, symbols in memory.items()
    }
    return json.dumps({"process": process, "tried": tried})
