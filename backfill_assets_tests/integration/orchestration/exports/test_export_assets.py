"""The files of the bars as assets: off by default, one partition a month, with a check and a schedule."""

import dagster as dg
import psycopg
import pytest

from backfill_assets_tests.dagster_harness import QUIET, definitions, definitions_with
from backfill_assets_tests.integration.orchestration.universes import SENSORS
from backfill_assets_tests.support import MOMENT

# Dagster 1.13 records a check of a run in this process by a deprecated call.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")

ONE_DAY = dg.AssetKey(["stocks", "export_1d"])


@pytest.fixture
def exporting(harness, monkeypatch, tmp_path):
    """The harness with bars, and definitions that export them."""
    harness.start_from("bars to export", lambda: harness.run("2025-06-16|AAPL", "2025-06-30|NVDA"))
    monkeypatch.setenv("BACKFILL_EXPORT", str(tmp_path / "files"))
    harness.defs = definitions_with({}, SENSORS)
    return harness


ALL_MONTHS = {"dagster/asset_partition_range_start": "2025-06-01", "dagster/asset_partition_range_end": "2025-07-01"}


def run(harness, job="stocks_export_job", tags=ALL_MONTHS, **terms):
    resolved = harness.defs.resolve_job_def(job)
    done = resolved.execute_in_process(
        instance=harness.instance, tags=tags, run_config={"loggers": QUIET}, raise_on_error=False, **terms
    )
    assert done.success
    return {e.asset_key.path[-1]: e for e in done.get_asset_check_evaluations()}


def test_there_are_none_by_default_and_the_schedule_is_off():
    graph = definitions(SENSORS).resolve_asset_graph()
    assert not any("export" in key.to_user_string() for key in graph.get_all_asset_keys())


def test_a_run_writes_the_files_marks_their_months_and_checks_them(exporting, tmp_path):
    checks = run(exporting)
    assert {name: check.passed for name, check in checks.items()} == {"export_1d": True, "export_1w": True}
    assert exporting.materialized("1d", family="export") == {"2025-06-01"}
    found = exporting.metadata("1d", "2025-06-01", family="export")
    file = tmp_path / "files" / "market=stocks/timeframe=1d/year=2025/2025-06.parquet"
    assert found == {"rows": 3 * 10, "bytes": file.stat().st_size, "file": str(file)}
    events = len(exporting.instance.fetch_materializations(ONE_DAY, limit=9).records)
    run(exporting)
    assert len(exporting.instance.fetch_materializations(ONE_DAY, limit=9).records) == events

    with psycopg.connect(exporting.database_url) as connection:
        connection.execute("update market_data set close = close + 1 where symbol = 'MSFT' and timeframe = '1d'")
    check = run(exporting)["export_1d"]
    assert not check.passed
    assert check.description.startswith(
        "1 of the files do not have the bars of the tables; the first is market=stocks/timeframe=1d/"
    )
    assert check.metadata["repair"].value == f"backfill export {tmp_path / 'files'} --full --markets stocks"
    stored = exporting.rows("select passed from check_results where asset = 'stocks/export_1d'")
    assert stored == [(False,)]


def test_a_run_of_one_month_is_about_this_month_only(exporting):
    check = run(exporting, tags=None, partition_key="2025-07-01")["export_1d"]
    assert check.description == "The files of 2025-07-01 to 2025-07-31 have the bars of the tables."
    assert exporting.materialized("1d", family="export") == set()


def test_the_schedule_is_off_by_default_and_covers_all_months(exporting):
    schedule = exporting.defs.resolve_schedule_def("stocks_export_nightly")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    with dg.build_schedule_context(scheduled_execution_time=MOMENT) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    edges = [request.tags[f"dagster/asset_partition_range_{edge}"] for edge in ("start", "end")]
    assert edges == ["2025-06-01", "2025-07-01"]
