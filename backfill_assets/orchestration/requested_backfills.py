"""Backfills that the API launches; the daemon executes them, and the Dagster UI shows them like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import dagster as dg

from backfill_assets.deployment.private_api import launch_backfill
from backfill_assets.deployment.runs import TRIGGER_TAG
from backfill_assets.domain.universe import Symbol
from backfill_assets.orchestration.keys import features_key, ohlcv_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.backfill_request import BackfillRequest


def launch_requested(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    request: BackfillRequest,
    *,
    features: bool,
    backfill_id: str | None,
    trigger: str,
    tags: Mapping[str, str],
) -> str:
    """Launch a backfill of what a request names, and return its id. Raises ValueError if the request has no sessions."""
    market, days = request.market, request.days
    if days is None:
        raise ValueError("The request has no sessions.")
    keys = [ohlcv_key, features_key] if features else [ohlcv_key]
    return launch_backfill(
        instance,
        repository,
        [key(market, timeframe) for key in keys for timeframe in request.timeframes],
        [
            (partition_key(days.start, symbols[0]), partition_key(days.end, symbols[-1]))
            for symbols in _neighbours(market.symbols, request)
        ],
        title=f"{market.name} {days}",
        tags={TRIGGER_TAG: trigger, **tags},
        at=request.now,
        backfill_id=backfill_id,
    )


def _neighbours(symbols: Sequence[Symbol], request: BackfillRequest) -> list[list[Symbol]]:
    """Group the requested symbols that follow one another in the universe: a range of partitions has all between two."""
    return [list(group) for wanted, group in groupby(symbols, lambda symbol: symbol in request.wanted) if wanted]
