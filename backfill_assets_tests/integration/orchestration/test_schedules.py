"""The ticks of all schedules: which runs they request, and which are skipped."""

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
    """Evaluate the nightly schedule of a market at 02:00 UTC of a day."""
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
def test_a_nightly_run_covers_the_newest_session_and_the_two_before_it(night, first, last):
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
def test_a_night_without_a_finished_session_is_skipped_with_its_reason(night, newest):
    data = tick("stocks", night)
    assert not data.run_requests
    assert data.skip_message == (
        f"No stocks session has finished in the last 24 hours: the market was closed. The last was {newest}."
    )


def test_a_night_before_the_markets_first_session_is_skipped():
    assert tick("stocks", date(2024, 1, 2)).skip_message == "No stocks session has finished since 2024-01-02."


def test_crypto_has_a_run_every_night_of_a_year():
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


def test_a_nightly_run_fetches_restatements_and_is_tagged_with_its_trigger():
    (request,) = tick("stocks", date(2024, 3, 9)).run_requests
    assert request.run_key == "stocks 2024-03-08"
    assert request.run_config == {"ops": {"stocks_ohlcv": {"config": {"refresh": "RESTATEMENTS"}}}}
    assert request.tags["backfill/trigger"] == "nightly schedule"


def test_features_run_an_hour_after_the_bars_and_need_no_key(monkeypatch):
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


@pytest.mark.parametrize(
    ("name", "job", "minute"),
    [
        ("checks", "ohlcv_checks", 30),
        ("feature_checks", "features_checks", 30),
        ("completeness", "completeness_job", 35),
    ],
)
@pytest.mark.parametrize("market_name", ["stocks", "crypto"])
def test_hourly_schedules_run_every_hour_without_a_key(market_name, name, job, minute, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    schedule = DEFINITIONS.resolve_schedule_def(f"{market_name}_{name}_hourly")
    assert (schedule.job_name, schedule.cron_schedule) == (f"{market_name}_{job}", f"{minute} * * * *")
    for hour in range(24):
        (request,) = evaluated(schedule.name, datetime(2024, 3, 9, hour, minute, tzinfo=UTC)).run_requests
        assert request.tags["backfill/trigger"] == "hourly schedule"
        assert request.partition_key is None


@pytest.mark.parametrize(
    ("schedule", "cron", "asset", "days"),
    [
        ("events_daily", "0 4 * * *", "corporate_events", ["2024-03-09", "2024-03-10", "2024-03-11", "2024-12-25"]),
        ("listings_weekly", "0 5 * * 0", "listings", ["2024-03-03", "2024-03-10", "2024-03-17", "2024-03-24"]),
    ],
)
def test_reference_data_is_fetched_on_closed_days_too(schedule, cron, asset, days):
    definition = DEFINITIONS.resolve_schedule_def(f"stocks_{schedule}")
    assert definition.cron_schedule == cron
    for day in days:
        at = datetime.fromisoformat(f"{day}T0{cron[2]}:00:00+00:00")
        (request,) = evaluated(definition.name, at).run_requests
        assert request.tags["backfill/trigger"] == f"{schedule.partition('_')[2]} schedule"
        assert request.run_key == f"{at:%Y-%m-%dT%H:%M}"
    job = DEFINITIONS.get_repository_def().get_job(definition.job_name)
    assert set(job.asset_layer.selected_asset_keys) == {dg.AssetKey(["stocks", asset])}


@pytest.mark.parametrize("schedule", ["ohlcv_nightly", "events_daily", "listings_weekly"])
def test_without_a_key_schedules_that_fetch_are_skipped(schedule, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    data = evaluated(f"stocks_{schedule}", datetime(2024, 3, 9, 2, tzinfo=UTC))
    assert (data.run_requests, data.skip_message) == ([], "POLYGON_API_KEY is not set: nothing can be fetched.")
