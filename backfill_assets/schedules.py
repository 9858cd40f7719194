"""When runs start by themselves.

What lives here: one nightly schedule a market. What does not: what a run does, and which days are sessions.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.partitions import partition_key
from backfill_assets.pipelines.orders import Refresh
from backfill_assets.run_tags import TRIGGER_TAG

NIGHTLY = "0 2 * * *"
"""02:00 UTC is 21:00 or 22:00 in New York: a stock session has finished, and the crypto day before."""

RESTATED_SESSIONS = 2
"""Recent bars can be revised by the vendor: so many sessions before the newest are asked for again."""


def nightly_ohlcv(market: Market, calendar: Calendar, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Every night one run over all symbols: the last finished session, and the two before it again.

    Nights after which no session has finished are skipped, with the reason. On by default.
    """

    @dg.schedule(
        name=f"{market.name}_ohlcv_nightly",
        job=job,
        cron_schedule=NIGHTLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"The last finished {market.name} session, and the {RESTATED_SESSIONS} before it for restatements.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = (context.scheduled_execution_time or datetime.now(UTC)).astimezone(UTC)
        newest = calendar.last_finished(now)
        if newest is None:
            return dg.SkipReason(f"No {market.name} session has finished since {market.start}.")
        if calendar.hours.finished_at(newest) <= now - timedelta(days=1):
            return dg.SkipReason(
                f"No {market.name} session has finished in the last 24 hours: the market was closed. The last was {newest}."
            )
        if Settings.read(os.environ).api_key is None:
            return dg.SkipReason("POLYGON_API_KEY is not set: nothing can be fetched.")
        sessions = calendar.sessions[: calendar.sessions.index(newest) + 1][-1 - RESTATED_SESSIONS :]
        return dg.RunRequest(
            run_key=f"{market.name} {newest}",
            tags={
                "dagster/asset_partition_range_start": partition_key(sessions[0], market.symbols[0]),
                "dagster/asset_partition_range_end": partition_key(sessions[-1], market.symbols[-1]),
                TRIGGER_TAG: "nightly schedule",
            },
            run_config={"ops": {f"{market.name}_ohlcv": {"config": {"refresh": Refresh.RESTATEMENTS.name}}}},
        )

    return nightly
