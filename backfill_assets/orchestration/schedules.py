"""When runs start by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.tags import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.keys import listings_key
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.backfill_request import Refresh

NIGHTLY = "0 2 * * *"
"""02:00 UTC is 21:00 or 22:00 in New York: a stock session has finished, and the crypto day before."""

FEATURES = "0 3 * * *"
"""An hour for the bars of the night. What comes later is found by what it makes out of date."""

HOURLY = "30 * * * *"
AFTER_CHECKS = "35 * * * *"
WEEKLY = "0 5 * * 0"

EVENTS = "0 4 * * *"
"""04:00 UTC is 23:00 or 00:00 in New York: before the opening of the day on which a split acts."""

NO_KEY = "POLYGON_API_KEY is not set: nothing can be fetched."

RESTATED_SESSIONS = 2
"""Recent bars can be revised by the vendor: so many sessions before the newest are asked for again, and computed again."""


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
        config = {"refresh": Refresh.RESTATEMENTS.name}
        night = _night(market, calendar, context.scheduled_execution_time, {f"{market.name}_ohlcv": {"config": config}})
        if isinstance(night, dg.RunRequest) and Settings.read().api_key is None:
            return dg.SkipReason(NO_KEY)
        return night

    return nightly


def nightly_features(market: Market, calendar: Calendar, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Every night one run over all symbols and the sessions that the night's run over bars may have written.

    The same nights are skipped as there. No request is sent, so no key is needed. On by default.
    """

    @dg.schedule(
        name=f"{market.name}_features_nightly",
        job=job,
        cron_schedule=FEATURES,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Features of the last finished {market.name} session, and of the {RESTATED_SESSIONS} before it.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return _night(market, calendar, context.scheduled_execution_time)

    return nightly


def _night(
    market: Market, calendar: Calendar, scheduled: datetime | None, ops: Mapping[str, object] = MappingProxyType({})
) -> dg.RunRequest | dg.SkipReason:
    """A run over the newest sessions of all symbols, unless none has finished since the night before."""
    now = (scheduled or datetime.now(UTC)).astimezone(UTC)
    newest = calendar.last_finished(now)
    if newest is None:
        return dg.SkipReason(f"No {market.name} session has finished since {market.start}.")
    if calendar.hours.finished_at(newest) <= now - timedelta(days=1):
        return dg.SkipReason(
            f"No {market.name} session has finished in the last 24 hours: the market was closed. The last was {newest}."
        )
    sessions = calendar.sessions[: calendar.sessions.index(newest) + 1][-1 - RESTATED_SESSIONS :]
    return dg.RunRequest(
        run_key=f"{market.name} {newest}",
        tags={
            RANGE_START_TAG: partition_key(sessions[0], market.symbols[0]),
            RANGE_END_TAG: partition_key(sessions[-1], market.symbols[-1]),
            TRIGGER_TAG: "nightly schedule",
        },
        run_config={"ops": dict(ops)},
    )


def hourly_checks(
    market: Market, job: dg.UnresolvedAssetJobDefinition, name: str = "checks_hourly", of: str = "bars"
) -> dg.ScheduleDefinition:
    """Every hour the checks of a market by themselves: what no run brought is missed all the same. On by default."""
    return dg.ScheduleDefinition(
        name=f"{market.name}_{name}",
        job=job,
        cron_schedule=HOURLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"The asset checks of the {market.name} {of}.",
        tags={TRIGGER_TAG: "hourly schedule"},
    )


def hourly_completeness(market: Market, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Every hour how complete a market is. On by default.

    A run of its own beside that of the checks: in one job, an OHLCV output that is skipped would skip it too.
    """
    return dg.ScheduleDefinition(
        name=f"{market.name}_completeness_hourly",
        job=job,
        cron_schedule=AFTER_CHECKS,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"How complete the {market.name} bars are, also where nothing ran.",
        tags={TRIGGER_TAG: "hourly schedule"},
    )


def weekly_listings(market: Market) -> dg.ScheduleDefinition:
    """Every Sunday the listing dates of a market of stocks. On by default."""

    @dg.schedule(
        name=f"{market.name}_listings_weekly",
        target=dg.AssetSelection.assets(listings_key(market)),
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"First and last day of trading of the {market.name} symbols.",
    )
    def weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if Settings.read().api_key is None:
            return dg.SkipReason(NO_KEY)
        return dg.RunRequest(
            run_key=f"{context.scheduled_execution_time:%Y-%m-%d}", tags={TRIGGER_TAG: "weekly schedule"}
        )

    return weekly


def daily_events(market: Market, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Every day the splits and dividends of a market of stocks, closed days too. On by default."""

    @dg.schedule(
        name=f"{market.name}_events_daily",
        job=job,
        cron_schedule=EVENTS,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Splits and dividends of the {market.name} symbols: what is new, and what was called off.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if Settings.read().api_key is None:
            return dg.SkipReason(NO_KEY)
        return dg.RunRequest(
            run_key=f"{context.scheduled_execution_time:%Y-%m-%d}", tags={TRIGGER_TAG: "daily schedule"}
        )

    return daily
