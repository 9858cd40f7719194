"""Mark single partitions of an asset as materialized."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.deployment.private_api import log_materializations
from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.universe import Symbol
from backfill_assets.orchestration.partitions import partition_key

type StoredSession = SessionAnswer | FeatureSession
"""A session with its number of bars, and the starts of the first and the last (aware)."""


def mark_materialized(
    context: dg.AssetExecutionContext, key: dg.AssetKey, sessions: Iterable[tuple[Symbol, StoredSession]]
) -> None:
    """Mark exactly these partitions as materialized, in one batch of writes. Any thread may call this.

    An asset's output is never yielded: Dagster would mark every partition of the run, and only at its end.
    """
    log_materializations(
        context,
        (
            dg.AssetMaterialization(key, partition=partition_key(s.session, symbol), metadata=_metadata(s))
            for symbol, s in sessions
        ),
    )


def _metadata(session: StoredSession) -> dict[str, dg.MetadataValue[Any]]:
    metadata: dict[str, dg.MetadataValue[Any]] = {"bars": dg.MetadataValue.int(session.bars)}
    if session.first and session.last:
        metadata["first_bar"] = dg.MetadataValue.timestamp(session.first)
        metadata["last_bar"] = dg.MetadataValue.timestamp(session.last)
    return metadata
