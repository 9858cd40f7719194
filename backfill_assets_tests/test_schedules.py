"""The nightly ticks: what they ask for, and which nights they let pass."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.wiring import build_definitions
from backfill_assets_tests.surroundings import KEY, market, trading, universe

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


def tick(name, day):
    """What the schedule says at 02:00 UTC of a day."""
    schedule = DEFINITIONS.resolve_schedule_def(f"{name}_ohlcv_nightly")
    at = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=2)
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        return schedule.evaluate_tick(context)


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
    sessions = trading("stocks").within(DayRange(date(2024, 1, 2), date(2025, 12, 29)))
    assert [key.split()[1] for key in seen] == [s.isoformat() for s in sessions]


def test_schedules_run_without_being_switched_on():
    schedules = DEFINITIONS.get_repository_def().schedule_defs
    assert {s.name for s in schedules} == {"stocks_ohlcv_nightly", "crypto_ohlcv_nightly"}
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.RUNNING}
    assert {s.execution_timezone for s in schedules} == {"UTC"}
