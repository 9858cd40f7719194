"""Telling Dagster which partitions of an asset are there, and no more than these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from backfill_assets.deployment.private_api import log_materializations

type Cell = dict[str, dg.MetadataValue[Any]]
"""The metadata of one partition."""


def mark_materialized(
    context: dg.AssetExecutionContext, key: dg.AssetKey, cells: Mapping[dg.MultiPartitionKey, Cell]
) -> None:
    """Mark materialized exactly these partitions of the run, by their keys; any thread may.

    The asset's output is never yielded: that would mark every partition of the run, and only at its end.
    """
    log_materializations(context, (dg.AssetMaterialization(key, partition=p, metadata=m) for p, m in cells.items()))


def bars_cell(bars: int, first: datetime | None, last: datetime | None) -> Cell:
    """What is told of a partition: its number of bars, start of the first and the last (aware)."""
    metadata: Cell = {"bars": dg.MetadataValue.int(bars)}
    if first and last:
        metadata["first_bar"] = dg.MetadataValue.timestamp(first)
        metadata["last_bar"] = dg.MetadataValue.timestamp(last)
    return metadata
