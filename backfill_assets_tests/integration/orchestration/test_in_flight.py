"""Which days of which symbols the runs and backfills in progress cover."""

from datetime import date

import dagster as dg
import pytest

from backfill_assets.deployment.private_api import UnfinishedBackfill
from backfill_assets.domain.days import DayRange
from backfill_assets.orchestration.in_flight import busy_days, repair_in_progress
from backfill_assets_tests.integration.orchestration.universes import CRYPTO, STOCKS, create_run, range_tags

STARTED = dg.DagsterRunStatus.STARTED
ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
NOT_OURS = {dg.DagsterRunStatus.MANAGED, dg.DagsterRunStatus.SUSPENDED}  # of Dagster's hosted service
DAILY = dg.AssetKey(["stocks", "ohlcv_1d"])


@pytest.fixture
def instance(blank_instance):
    return blank_instance


def days(first, last):
    return DayRange(date.fromisoformat(first), date.fromisoformat(last))


def backfill(*keys, asset=DAILY, **tags):
    return UnfinishedBackfill("abc", tags, {asset: frozenset(keys)})


def test_a_run_covers_the_symbols_between_its_corners(instance):
    create_run(instance, STARTED, range_tags("2025-06-18|AAPL", "2025-06-24|MSFT"))
    expected = days("2025-06-18", "2025-06-24")
    assert busy_days(instance, [], STOCKS) == {"AAPL": [expected], "MSFT": [expected]}


def test_a_run_of_one_partition_covers_that_one(instance):
    create_run(instance, STARTED, {"dagster/partition": "2025-06-18|NVDA"})
    assert busy_days(instance, [], STOCKS) == {"NVDA": [days("2025-06-18", "2025-06-18")]}


@pytest.mark.parametrize(("status", "busy"), [(s, s not in ENDED) for s in dg.DagsterRunStatus if s not in NOT_OURS])
def test_a_run_is_in_progress_until_it_has_ended(instance, status, busy):
    create_run(instance, status, range_tags("2025-06-18|AAPL", "2025-06-18|AAPL"))
    assert bool(busy_days(instance, [], STOCKS)) is busy


def test_a_run_of_a_backfill_is_recognized_by_its_assets(instance):
    tags = range_tags("2025-06-18|AAPL", "2025-06-18|AAPL")
    create_run(instance, STARTED, tags, job_name="__ASSET_JOB", asset_selection=frozenset({DAILY}))
    assert set(busy_days(instance, [], STOCKS)) == {"AAPL"}
    assert busy_days(instance, [], CRYPTO) == {}


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({}, id="none"),
        pytest.param(range_tags("2025-06-18|OLD", "2025-06-18|AAPL"), id="a symbol no longer in the universe"),
        pytest.param({"dagster/partition": "2025-06-18"}, id="of another shape"),
        pytest.param(range_tags("2025-06-20|AAPL", "2025-06-18|AAPL"), id="the wrong way round"),
    ],
)
def test_runs_without_valid_partitions_cover_none(instance, tags):
    create_run(instance, STARTED, tags)
    assert busy_days(instance, [], STOCKS) == {}


def test_a_check_of_a_market_covers_nothing(instance):
    create_run(instance, STARTED, {}, job_name="stocks_ohlcv_checks")
    assert busy_days(instance, [], STOCKS) == {}


def test_a_backfill_covers_each_symbol_from_its_first_session_to_its_last(instance):
    found = busy_days(
        instance, [backfill("2025-06-24|MSFT", "2025-06-18|MSFT", "2025-06-20|AAPL", "2025-06-20|OLD")], STOCKS
    )
    assert found == {"AAPL": [days("2025-06-20", "2025-06-20")], "MSFT": [days("2025-06-18", "2025-06-24")]}


def test_a_backfill_of_other_assets_covers_nothing(instance):
    others = [backfill("2025-06-24|MSFT", asset=dg.AssetKey(["crypto", "ohlcv_1d"]))]
    others.append(backfill("2025-06-24", asset=dg.AssetKey(["stocks", "listings"])))
    assert busy_days(instance, others, STOCKS) == {}


def test_a_repair_is_recognized_by_its_tag():
    by_hand, repair = backfill("2025-06-24|MSFT"), backfill("2025-06-24|MSFT", **{"backfill/repair": "stocks"})
    assert repair_in_progress([by_hand], STOCKS) is None
    assert repair_in_progress([by_hand, repair], STOCKS) == "abc"
    assert repair_in_progress([by_hand, repair], CRYPTO) is None
