"""The jobs of a market and when they run, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.runs import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from backfill_assets.domain.sessions import Calendar, Kind
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.features.checks import feature_check_specs
from backfill_assets.orchestration.keys import (
    completeness_key,
    corporate_events_key,
    export_key,
    features_key,
    listings_key,
    ohlcv_key,
)
from backfill_assets.orchestration.ohlcv.checks import ohlcv_check_specs
from backfill_assets.orchestration.partitions import partition_key
from backfill_assets.pipelines.backfill_request import Refresh

NO_KEY = "POLYGON_API_KEY is not set: nothing can be fetched."

RESTATED_SESSIONS = 2
"""Sessions before the newest that are fetched and computed again: the vendor may revise recent bars."""


@dataclass(frozen=True, slots=True)
class MarketJob:
    """A job of every market, and its schedule. In texts, `{market}` is the market's name.

    name           of the job, after the market's name
    schedule       name of the schedule, after the market's name
    cron           in UTC
    trigger        value of the tag that names what started a run
    family         of the assets that the job materializes or checks
    kinds          of the markets that have the job
    over_sessions  runs over the newest sessions of all symbols, if one has finished in the last 24 hours
    exports        of files, over all months: only if BACKFILL_EXPORT is set, and with a schedule that is off by default
    needs_key      skipped without POLYGON_API_KEY
    config         of the op `{market}_{family}`
    repair         the command that does the same
    """

    name: str
    description: str
    select: Callable[[Market], dg.AssetSelection]
    schedule: str
    cron: str
    schedule_description: str
    trigger: str
    family: str
    kinds: tuple[Kind, ...] = tuple(Kind)
    over_sessions: bool = False
    exports: bool = False
    needs_key: bool = False
    config: Mapping[str, object] = field(default_factory=dict)
    repair: str | None = None


JOBS = (
    MarketJob(
        "ohlcv_job",
        "Fetch the missing bars of {market}.",
        lambda market: dg.AssetSelection.assets(*(ohlcv_key(market, t) for t in market.timeframes)),
        "ohlcv_nightly",
        "0 2 * * *",  # 21:00 or 22:00 in New York: the stock session has finished, and the crypto day before
        f"Fetches the last finished session of {{market}}, and the {RESTATED_SESSIONS} before it for restatements.",
        "nightly schedule",
        "ohlcv",
        over_sessions=True,
        needs_key=True,
        config={"refresh": Refresh.RESTATEMENTS.name},
        repair="backfill run --markets {market}",
    ),
    MarketJob(
        "features_job",
        "Compute the missing and outdated features of {market}, from the stored bars.",
        lambda market: dg.AssetSelection.assets(*(features_key(market, t) for t in market.timeframes)),
        "features_nightly",
        "0 3 * * *",  # the bars have an hour; the sensor stale_features computes what arrives later
        f"Computes the features of the last finished session of {{market}}, and of the {RESTATED_SESSIONS} before it.",
        "nightly schedule",
        "features",
        over_sessions=True,
        repair="backfill features --markets {market}",
    ),
    MarketJob(
        "ohlcv_checks",
        "Check that the stored bars of {market} are complete and valid.",
        lambda market: dg.AssetSelection.checks(*(spec.key for spec in ohlcv_check_specs(market))),
        "checks_hourly",
        "30 * * * *",
        "Checks the bars of {market}, even if nothing has run.",
        "hourly schedule",
        "ohlcv",
    ),
    MarketJob(
        "features_checks",
        "Check that the stored features of {market} are complete, up to date and in range.",
        lambda market: dg.AssetSelection.checks(*(spec.key for spec in feature_check_specs(market))),
        "feature_checks_hourly",
        "30 * * * *",
        "Checks the features of {market}, even if nothing has run.",
        "hourly schedule",
        "features",
    ),
    MarketJob(
        "completeness_job",  # not in the job of the checks: a skipped OHLCV output would skip it too
        "Measure how complete the stored bars of {market} are.",
        lambda market: dg.AssetSelection.assets(completeness_key(market)),
        "completeness_hourly",
        "35 * * * *",
        "Measures how complete the bars of {market} are, even if nothing has run.",
        "hourly schedule",
        "completeness",
    ),
    MarketJob(
        "export_job",
        "Write the files of {market} whose bars have changed.",
        lambda market: dg.AssetSelection.assets(*(export_key(market, t) for t in market.timeframes)),
        "export_nightly",
        "0 6 * * *",  # the features have three hours
        "Writes the files of {market} whose bars have changed, of all months.",
        "nightly schedule",
        "export",
        exports=True,
    ),
    MarketJob(
        "listings_job",
        "Fetch the listing dates of the {market} symbols.",
        lambda market: dg.AssetSelection.assets(listings_key(market)),
        "listings_weekly",
        "0 5 * * 0",
        "Fetches the first and last trading day of the {market} symbols.",
        "weekly schedule",
        "listings",
        kinds=(Kind.STOCKS,),
        needs_key=True,
    ),
    MarketJob(
        "events_job",
        "Fetch the splits and dividends of the {market} symbols.",
        lambda market: dg.AssetSelection.assets(corporate_events_key(market)),
        "events_daily",
        "0 4 * * *",  # 23:00 or 00:00 in New York: before the opening of the day on which a split takes effect
        "Fetches new and withdrawn splits and dividends of the {market} symbols, on closed days too.",
        "daily schedule",
        "corporate_events",
        kinds=(Kind.STOCKS,),
        needs_key=True,
        repair="backfill events --markets {market}",
    ),
)


def market_jobs(market: Market) -> dict[str, MarketJob]:
    """Return the jobs of a market by their full names."""
    return {f"{market.name}_{job.name}": job for job in JOBS if market.kind in job.kinds}


def market_schedules(market: Market, calendar: Calendar, *, exports: bool = False) -> list[dg.ScheduleDefinition]:
    """Define the schedules of a market, each with its job; with those of its files if `exports`."""
    jobs = market_jobs(market).items()
    return [_schedule(name, each, market, calendar) for name, each in jobs if exports or not each.exports]


def _schedule(name: str, each: MarketJob, market: Market, calendar: Calendar) -> dg.ScheduleDefinition:
    description = each.description.format(market=market.name)

    @dg.schedule(
        name=f"{market.name}_{each.schedule}",
        job=dg.define_asset_job(name, selection=each.select(market), description=description),
        cron_schedule=each.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED if each.exports else dg.DefaultScheduleStatus.RUNNING,
        description=each.schedule_description.format(market=market.name),
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = (context.scheduled_execution_time or datetime.now(UTC)).astimezone(UTC)
        run_key, tags = f"{now:%Y-%m-%dT%H:%M}", {TRIGGER_TAG: each.trigger}
        if each.over_sessions:
            newest = calendar.last_finished(now)
            if newest is None:
                return dg.SkipReason(f"No {market.name} session has finished since {market.start}.")
            if calendar.hours.finished_at(newest) <= now - timedelta(days=1):
                return dg.SkipReason(
                    f"No {market.name} session has finished in the last 24 hours: the market was closed. "
                    f"The last was {newest}."
                )
            sessions = calendar.sessions[: calendar.sessions.index(newest) + 1][-1 - RESTATED_SESSIONS :]
            run_key = f"{market.name} {newest}"
            tags[RANGE_START_TAG] = partition_key(sessions[0], market.symbols[0])
            tags[RANGE_END_TAG] = partition_key(sessions[-1], market.symbols[-1])
        if each.exports:
            tags[RANGE_START_TAG], tags[RANGE_END_TAG] = (f"{day:%Y-%m}-01" for day in (market.start, now))
        if each.needs_key and Settings.read().api_key is None:
            return dg.SkipReason(NO_KEY)
        ops = {f"{market.name}_{each.family}": {"config": dict(each.config)}} if each.config else {}
        return dg.RunRequest(run_key=run_key, tags=tags, run_config={"ops": ops} if ops else {})

    return scheduled
