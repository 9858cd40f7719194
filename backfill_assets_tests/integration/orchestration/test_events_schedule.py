"""The daily tick that asks for splits and dividends."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from backfill_assets.orchestration.build import build_definitions
from backfill_assets_tests.support import KEY, market, universe

DEFINITIONS = build_definitions(
    universe=universe(market("stocks", "AAPL"), market("crypto", "BTC")), today=datetime(2025, 7, 1, tzinfo=UTC).date()
)
NAME = "stocks_events_daily"


def tick(day):
    at = datetime.fromisoformat(f"{day}T04:00:00+00:00")
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        return DEFINITIONS.resolve_schedule_def(NAME).evaluate_tick(context)


def test_it_runs_every_day_at_four_utc_without_being_switched_on():
    schedule = DEFINITIONS.resolve_schedule_def(NAME)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 4 * * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "stocks_events_job"
    assert [s.name for s in DEFINITIONS.get_repository_def().schedule_defs if "events" in s.name] == [NAME]


@pytest.mark.parametrize("day", ["2024-03-09", "2024-03-10", "2024-03-11", "2024-12-25"])
def test_each_day_is_one_run_closed_days_too(monkeypatch, day):
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    (request,) = tick(day).run_requests
    assert request.run_key == f"{day}T04:00"
    assert request.tags["backfill/trigger"] == "daily schedule"


def test_without_a_key_a_day_says_so_and_asks_for_nothing(monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    data = tick("2024-03-09")
    assert (data.run_requests, data.skip_message) == ([], "POLYGON_API_KEY is not set: nothing can be fetched.")
