"""What Dagster is told when a market's bars were filled.

What lives here: materializations and metadata from how the series stand. What does not: filling them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from backfill_assets.adapters.store.bars import Written
from backfill_assets.assets.ohlcv_catalog import ohlcv_key
from backfill_assets.dagster_internals import log_materializations
from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.partitions import partition_key
from backfill_assets.pipelines.ohlcv import Series
from backfill_assets.pipelines.orders import Order


def report(
    context: dg.AssetExecutionContext, order: Order, series: Sequence[Series]
) -> Iterator[dg.MaterializeResult[None]]:
    """Mark materialized exactly the partitions that have bars, timeframe by timeframe.

    Where that is every partition of the run, the asset's output is yielded, which marks them all. Else single partitions are
    logged and the output is skipped: a gap stays missing.
    """
    targeted = len(context.partition_keys)
    for timeframe in order.timeframes:
        of_timeframe = [s for s in series if s.timeframe == timeframe]
        if not of_timeframe:
            continue
        key = ohlcv_key(order.market, timeframe)
        cells = {
            partition_key(answer.session, s.symbol): _cell(answer)
            for s in of_timeframe
            for answer in (s.answers[d] for d in s.wanted if d in s.answers)
            if answer.bars
        }
        if len(cells) == targeted:
            for partition, metadata in cells.items():
                context.add_asset_metadata(metadata, asset_key=key, partition_key=partition)
            yield dg.MaterializeResult(asset_key=key)
        else:
            log_materializations(
                context, (dg.AssetMaterialization(key, partition=p, metadata=m) for p, m in cells.items())
            )
        context.log.info(_sentence(timeframe, of_timeframe, len(cells)))


def _cell(answer: SessionAnswer) -> dict[str, dg.MetadataValue[Any]]:
    metadata: dict[str, dg.MetadataValue[Any]] = {"bars": dg.MetadataValue.int(answer.bars)}
    if answer.first and answer.last:
        metadata["first_bar"] = dg.MetadataValue.timestamp(answer.first)
        metadata["last_bar"] = dg.MetadataValue.timestamp(answer.last)
    return metadata


def _sentence(timeframe: Timeframe, series: Sequence[Series], filled: int) -> str:
    written = sum((s.written for s in series), Written())
    missing = sum(len(s.missing) for s in series)
    return (
        f"{timeframe}: {filled} partitions have bars, {missing} have none; "
        f"{written.inserted} bars added, {written.changed} changed, {written.unchanged} unchanged."
    )
