"""The ticks of each night, hour and week: what they ask for, and which they let pass."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.orchestration.build import build_definitions
from backfill_assets_tests.support import KEY, market, trading_calendar, universe

NAMES = [f"S{n:02}" for n in range(20)]
DEFINITIONS = build_definitions(
    universe=universe(
        market("stocks", *NAMES, timeframes=" ".join(TIMEFRAMES)),
        market("crypto", "BTC", "ETH", start=date(2024, 1, 1)),
    ),
    today=date(2025, 7, 1),
)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("POLYGON_API_KEY", KEY)


def evaluated(name, at):
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        return DEFINITIONS.resolve_schedule_def(name).evaluate_tick(context)


def tick(name, day):
    """What the nightly schedule of a market says at 02:00 UTC of a day."""
    return evaluated(f"{name}_ohlcv_nightly", datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=2))


def corners(data):
    (request,) = data.run_requests
    return tuple(request.tags[f"dagster/asset_partition_range_{edge}"] for edge in ("start", "end"))


@pytest.mark.parametrize(
    ("night", "first", "last"),
    [
        (date(2024, 3, 9), "2024-03-06", "2024-03-08"),  # Saturday morning in UTC: Friday's session
        (date(2024, 3, 12), "2024-03-07", "2024-03-11"),  # the first session after clocks went forward
        (date(2024, 11, 5), "2024-10-31", "2024-11-04"),  # and after they went back
        (date(2024, 11, 30), "2024-11-26", "2024-11-29"),  # a half day, and Thanksgiving before it
        (date(2024, 7, 6), "2024-07-02", "2024-07-05"),  # over Independence Day
        (date(2025, 1, 11), "2025-01-07", "2025-01-10"),  # over a day of mourning
    ],
)
def test_a_night_asks_for_the_newest_session_and_the_two_before_it(night, first, last):
    assert corners(tick("stocks", night)) == (f"{first}|S00", f"{last}|S19")


@pytest.mark.parametrize(
    ("night", "newest"),
    [
        (date(2024, 3, 10), "2024-03-08"),  # Sunday
        (date(2024, 3, 11), "2024-03-08"),  # Monday, before New York opens
        (date(2024, 11, 29), "2024-11-27"),  # the night after Thanksgiving
        (date(2025, 1, 10), "2025-01-08"),  # the night after a day of mourning
    ],
)
def test_a_night_after_which_no_session_has_finished_is_skipped_with_its_reason(night, newest):
    data = tick("stocks", night)
    assert not data.run_requests
    assert data.skip_message == (
        f"No stocks session has finished in the last 24 hours: the market was closed. The last was {newest}."
    )


def test_without_a_key_a_night_says_so_and_asks_for_nothing(monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    data = tick("stocks", date(2024, 3, 9))
    assert (data.run_requests, data.skip_message) == ([], "POLYGON_API_KEY is not set: nothing can be fetched.")


def test_before_a_markets_first_session_a_night_says_so():
    assert tick("stocks", date(2024, 1, 2)).skip_message == "No stocks session has finished since 2024-01-02."


def test_coins_are_asked_for_every_night_of_a_year():
    for offset in range(366):
        night = date(2024, 1, 4) + timedelta(days=offset)
        first, last = night - timedelta(days=3), night - timedelta(days=1)
        assert corners(tick("crypto", night)) == (f"{first}|BTC", f"{last}|ETH")


def test_every_stock_session_of_two_years_is_the_newest_of_exactly_one_night():
    seen = []
    for offset in range(2, 730):
        data = tick("stocks", date(2024, 1, 1) + timedelta(days=offset))
        seen += [request.run_key for request in data.run_requests]
    assert len(seen) == len(set(seen))
    sessions = trading_calendar("stocks").within(DayRange(date(2024, 1, 2), date(2025, 12, 29)))
    assert [key.split()[1] for key in seen] == [s.isoformat() for s in sessions]


def test_a_night_asks_for_restatements_and_says_what_started_it():
    (request,) = tick("stocks", date(2024, 3, 9)).run_requests
    assert request.run_key == "stocks 2024-03-08"
    assert request.run_config == {"ops": {"stocks_ohlcv": {"config": {"refresh": "RESTATEMENTS"}}}}
    assert request.tags["backfill/trigger"] == "nightly schedule"


def test_features_have_the_same_nights_as_bars_an_hour_later_and_need_no_key(monkeypatch):
    assert DEFINITIONS.resolve_schedule_def("stocks_features_nightly").cron_schedule == "0 3 * * *"
    nights = [date(2024, 1, 2) + timedelta(days=offset) for offset in range(366)]
    of_bars = [tick("stocks", night) for night in nights]
    monkeypatch.delenv("POLYGON_API_KEY")
    for night, bars in zip(nights, of_bars, strict=True):
        at = datetime.combine(night, datetime.min.time(), UTC) + timedelta(hours=3)
        features = evaluated("stocks_features_nightly", at)
        assert features.skip_message == bars.skip_message
        assert len(features.run_requests) == len(bars.run_requests)
        if features.run_requests:
            assert corners(features) == corners(bars)
            (request,) = features.run_requests
            assert (request.tags["backfill/trigger"], request.run_config) == ("nightly schedule", {})


@pytest.mark.parametrize(("name", "job"), [("checks", "ohlcv_checks"), ("feature_checks", "features_checks")])
@pytest.mark.parametrize("market_name", ["stocks", "crypto"])
def test_every_hour_the_checks_of_each_market_are_run_key_or_not(market_name, name, job, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    schedule = DEFINITIONS.resolve_schedule_def(f"{market_name}_{name}_hourly")
    assert (schedule.job_name, schedule.cron_schedule) == (f"{market_name}_{job}", "30 * * * *")
    for hour in range(24):
        (request,) = evaluated(schedule.name, datetime(2024, 3, 9, hour, 30, tzinfo=UTC)).run_requests
        assert request.tags["backfill/trigger"] == "hourly schedule"
        assert request.partition_key is None


def test_every_sunday_the_listing_dates_of_stocks_are_looked_up():
    schedule = DEFINITIONS.resolve_schedule_def("stocks_listings_weekly")
    assert schedule.cron_schedule == "0 5 * * 0"
    sundays = [datetime(2024, 3, 3, 5, tzinfo=UTC) + timedelta(days=7 * week) for week in range(4)]
    keys = []
    for sunday in sundays:
        (request,) = evaluated(schedule.name, sunday).run_requests
        assert request.tags["backfill/trigger"] == "weekly schedule"
        keys.append(request.run_key)
    assert keys == [f"{sunday:%Y-%m-%dT05:00}" for sunday in sundays]
    job = DEFINITIONS.get_repository_def().get_job(schedule.job_name)
    assert set(job.asset_layer.selected_asset_keys) == {dg.AssetKey(["stocks", "listings"])}


def test_without_a_key_a_week_says_so_and_looks_nothing_up(monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    data = evaluated("stocks_listings_weekly", datetime(2024, 3, 3, 5, tzinfo=UTC))
    assert (data.run_requests, data.skip_message) == ([], "POLYGON_API_KEY is not set: nothing can be fetched.")


def test_schedules_run_without_being_switched_on():
    schedules = DEFINITIONS.get_repository_def().schedule_defs
    assert {s.name for s in schedules} >= {
        "stocks_ohlcv_nightly",
        "crypto_ohlcv_nightly",
        "stocks_checks_hourly",
        "crypto_checks_hourly",
        "stocks_features_nightly",
        "crypto_features_nightly",
        "stocks_feature_checks_hourly",
        "crypto_feature_checks_hourly",
        "stocks_listings_weekly",
    }
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.RUNNING}
    assert {s.execution_timezone for s in schedules} == {"UTC"}
