"""What Dagster is told when a market's bars were filled.

What lives here: materializations and metadata from how the series stand. What does not: filling them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg

from backfill_assets.adapters.store.bars import Written
from backfill_assets.asset_keys import ohlcv_key
from backfill_assets.assets.materializations import bars_cell, mark_materialized
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.partitions import partition_key
from backfill_assets.pipelines.ohlcv import Series
from backfill_assets.pipelines.orders import Order


def report(
    context: dg.AssetExecutionContext, order: Order, series: Sequence[Series]
) -> Iterator[dg.MaterializeResult[None]]:
    """Mark materialized exactly the partitions that have bars, timeframe by timeframe: a gap stays missing."""
    for timeframe in order.timeframes:
        of_timeframe = [s for s in series if s.timeframe == timeframe]
        if not of_timeframe:
            continue
        cells = {
            partition_key(answer.session, s.symbol): bars_cell(answer.bars, answer.first, answer.last)
            for s in of_timeframe
            for answer in (s.answers[d] for d in s.wanted if d in s.answers)
            if answer.bars
        }
        yield from mark_materialized(context, ohlcv_key(order.market, timeframe), cells)
        context.log.info(_sentence(timeframe, of_timeframe, len(cells)))


def _sentence(timeframe: Timeframe, series: Sequence[Series], filled: int) -> str:
    written = sum((s.written for s in series), Written())
    missing = sum(len(s.missing) for s in series)
    return (
        f"{timeframe}: {filled} partitions have bars, {missing} have none; "
        f"{written.inserted} bars added, {written.changed} changed, {written.unchanged} unchanged."
    )
