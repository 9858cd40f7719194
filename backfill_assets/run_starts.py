"""What is known of a run when it begins, for its record.

What lives here: reading it off Dagster's context. What does not: recording it.
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from backfill_assets.domain.run_record import RunKind, RunStart
from backfill_assets.domain.universe import Market
from backfill_assets.run_tags import BACKFILL_TAG, TRIGGER_TAG


def run_start(context: dg.AssetExecutionContext, kind: RunKind, market: Market, at: datetime) -> RunStart:
    """The run of the context, at the instant `at` (UTC)."""
    tags = context.run.tags
    backfill = tags.get(BACKFILL_TAG)
    trigger = tags.get(TRIGGER_TAG) or (f"backfill {backfill}" if backfill else "by hand")
    return RunStart(context.run.run_id, kind, market.name, trigger, at)
