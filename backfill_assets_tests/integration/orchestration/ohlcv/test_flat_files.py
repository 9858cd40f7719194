"""The sensor and the check of flat files, by Dagster's API: new and replaced files, and what differs from them."""

from dataclasses import replace
from datetime import date, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.sources import POLYGON, POLYGON_FILES
from backfill_assets.orchestration.resources import MarketStore
from backfill_assets.simulator import FileFault
from backfill_assets_tests.dagster_harness import FixedClock, definitions, failure
from backfill_assets_tests.support import MOMENT, market, universe

DAYS = ("2025-06-25|AAPL", "2025-06-27|MSFT")


@pytest.fixture
def small_universe():
    stocks = market("stocks", "AAPL", "MSFT", start=date(2025, 6, 25), timeframes="1m 5m 1d")
    return universe(replace(stocks, sources=(POLYGON, POLYGON_FILES)), market("crypto", "BTC", start=date(2025, 6, 25)))


@pytest.fixture
def files(harness, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYGON_FILES_URL", harness.vendor.url)
    monkeypatch.setenv("POLYGON_FILES_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("POLYGON_FILES_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    return harness


def tick(harness, hours=0):
    """Tick the sensor so many hours later; return its run requests, or the reason why there are none."""
    with dg.build_sensor_context(
        instance=harness.instance,
        repository_def=harness.defs.get_repository_def(),
        resources={"clock": FixedClock(at=(MOMENT + timedelta(hours=hours)).isoformat()), "store": MarketStore()},
    ) as context:
        data = harness.defs.resolve_sensor_def("flat_files").evaluate_tick(context)
    return data.run_requests or data.skip_message


def carried_out(harness, request):
    """Execute a run that the sensor requested."""
    job = harness.defs.resolve_job_def(request.job_name)
    return job.execute_in_process(
        instance=harness.instance, run_config=request.run_config, tags=request.tags, raise_on_error=False
    )


def checks(result):
    return {
        (e.asset_key.path[-1], e.check_name): (e.passed, e.description)
        for e in result.get_asset_check_evaluations()
        if e.check_name == "files_agree_with_rest"
    }


def test_new_files_are_read_once_and_differences_named_by_the_check(files):
    wrong = FileFault(kind="restated", base="minute", day=date(2025, 6, 26), ticker="AAPL", count=2)
    files.vendor.change(file_faults=(wrong,))
    result = files.run(*DAYS)
    assert set(checks(result)) == {("ohlcv_1m", "files_agree_with_rest"), ("ohlcv_1d", "files_agree_with_rest")}
    assert all(passed for passed, _ in checks(result).values())
    before = files.rows("table market_data order by 1, 2, 3")
    (request,) = tick(files)
    assert request.job_name == "stocks_ohlcv_job"
    result = carried_out(files, request)
    assert result.success
    passed, sentence = checks(result)["ohlcv_1m", "files_agree_with_rest"]
    assert not passed
    assert "1 session differs from the flat file; newest AAPL on 2025-06-26" in sentence
    assert checks(result)["ohlcv_1d", "files_agree_with_rest"][0]
    kept = files.rows("select * from market_data where timestamp < '2025-06-28' order by 1, 2, 3")
    assert kept == before
    assert tick(files) == "stocks: 0 sessions have files to read."


def test_a_damaged_file_is_read_four_times_a_day_until_it_is_replaced(files):
    assert files.run(*DAYS).success
    damaged = FileFault(kind="truncated", base="minute", day=date(2025, 6, 26))
    files.vendor.change(file_faults=(damaged,))
    (request,) = tick(files)
    assert not carried_out(files, request).success
    (left,) = tick(files)  # without the files that were read
    assert not carried_out(files, left).success
    assert [again.run_key for again in tick(files)] == [left.run_key] != [request.run_key]
    assert [again.run_key for again in tick(files, hours=6)] != [left.run_key]
    files.vendor.change(file_faults=())
    (replaced,) = tick(files)
    assert replaced.run_key != left.run_key
    assert carried_out(files, replaced).success
    assert tick(files) == "stocks: 0 sessions have files to read."


def test_without_an_access_key_the_api_is_used_and_the_sensor_says_so(harness):
    assert tick(harness) == "POLYGON_FILES_ACCESS_KEY_ID is not set: flat files are not read."
    assert harness.run(*DAYS).success
    assert harness.rows("select distinct source from market_data order by 1") == [("derived",), ("polygon",)]


def test_a_market_of_files_alone_needs_an_access_key(harness):
    stocks = replace(harness.universe.market("stocks"), sources=(POLYGON_FILES,))
    harness.defs = definitions(universe(stocks))
    result = harness.run(*DAYS)
    assert not result.success
    assert "POLYGON_FILES_ACCESS_KEY_ID is not set: stocks has no other source" in failure(result).message


def test_a_mistake_in_the_settings_is_the_reason_of_the_tick(files, monkeypatch):
    monkeypatch.delenv("POLYGON_FILES_SECRET_ACCESS_KEY")
    assert "POLYGON_FILES_SECRET_ACCESS_KEY is not set" in tick(files)
