"""The asset of splits and dividends and its check, run by Dagster."""

from datetime import date

import dagster as dg
import pytest
from msgspec.structs import replace

from backfill_assets.simulator import Dividend, Fault, Split
from backfill_assets_tests.dagster_harness import QUIET, failure

KEY = ("stocks", "corporate_events")
NVDA = Split(ticker="NVDA", execution_date=date(2024, 6, 10), split_to=10)
PAID = Dividend(ticker="MSFT", ex_dividend_date=date(2024, 5, 15), cash_amount=0.75)


def listed(harness, *splits, **more):
    harness.vendor.change(splits=(NVDA, *splits), dividends=(PAID,), **more)


def around_the_split(harness):
    """Fetch NVDA's daily bars of the Friday before and the Monday."""
    assert harness.run("2024-06-07|NVDA", "2024-06-10|NVDA", only=["1d"]).success


def metadata(result):
    (event,) = result.get_asset_materialization_events()
    entries = event.materialization.metadata
    return {name: value.value for name, value in entries.items() if "/" not in name}


def verdict(result):
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.asset_key, evaluation.check_name) == (dg.AssetKey(KEY), "split_is_plausible")
    return evaluation


def table(evaluation):
    return [record.data for record in evaluation.metadata["splits"].records]


def test_the_job_makes_two_requests_and_reports_what_it_found(harness):
    listed(harness)
    job = harness.defs.resolve_job_def("stocks_events_job")
    result = job.execute_in_process(instance=harness.instance, run_config={"loggers": QUIET})
    assert metadata(result) == {
        "requested_since": "2024-01-02",
        "splits": 1,
        "dividends": 1,
        "new": 2,
        "changed": 0,
        "withdrawn": 0,
        "returned": 0,
        "dropped_rows": 0,
    }
    assert len(harness.vendor.requests) == 2
    assert harness.rows("select symbol, kind, ex_date, size from corporate_events order by 1") == [
        ("MSFT", "dividend", date(2024, 5, 15), 0.75),
        ("NVDA", "split", date(2024, 6, 10), 10.0),
    ]
    assert harness.instance.get_latest_materialization_event(dg.AssetKey(KEY)) is not None


@pytest.mark.parametrize(
    ("config", "since"), [({"everything": True}, "2024-01-02"), ({"overlap_days": 10}, "2025-06-21")]
)
def test_the_config_sets_how_far_back_a_run_requests(harness, config, since):
    listed(harness)
    harness.materialize(*KEY)
    job = harness.defs.resolve_job_def("stocks_events_job")
    ops = {"stocks__corporate_events": {"config": config}}
    again = job.execute_in_process(instance=harness.instance, run_config={"ops": ops, "loggers": QUIET})
    assert metadata(again)["requested_since"] == since


def test_an_implausible_response_is_a_warning_and_withdraws_nothing(harness):
    listed(harness)
    harness.materialize(*KEY)
    harness.vendor.change(splits=())
    found = metadata(harness.materialize(*KEY))
    assert (found["splits"], found["withdrawn"]) == (1, 0)
    assert found["warnings"].startswith("Polygon lists no split of any ticker since 2025-05-17, which is implausible")


def test_a_failed_request_fails_the_run_and_leaves_the_table(harness):
    listed(harness, faults=(Fault(kind="status", status=403, path="/dividends"),))
    result = harness.materialize(*KEY)
    assert not result.success
    assert failure(result).cls_name == "NotEntitled"
    assert verdict(result).passed, "the check looks at what is stored"
    assert harness.rows("select count(*) from corporate_events") == [(0,)]


def test_a_split_that_prices_show_is_plausible(harness):
    listed(harness)
    around_the_split(harness)
    found = verdict(harness.materialize(*KEY))
    assert (found.passed, found.description) == (True, "1 splits examined, all plausible.")
    assert {name: value.value for name, value in found.metadata.items()} == {"judged": 1, "not_judged": 0}


def test_a_split_without_bars_is_not_judged(harness):
    listed(harness)
    found = verdict(harness.materialize(*KEY))
    assert found.passed
    assert {name: value.value for name, value in found.metadata.items()} == {"judged": 0, "not_judged": 1}


def test_a_split_that_prices_do_not_show_is_a_warning(harness):
    listed(harness, replace(NVDA, split_to=4, happened=False))
    around_the_split(harness)
    found = verdict(harness.materialize(*KEY))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "Prices do not jump by the ratio of: NVDA 2024-06-10."
    (record,) = table(found)
    assert (record["symbol"], record["ex-date"], record["expected"]) == ("NVDA", "2024-06-10", 40.0)
    assert 9 < record["seen"] < 11
    assert record["seen"] == pytest.approx(record["close before"] / record["open"], rel=1e-4)


def test_splits_of_one_day_that_cancel_out_are_not_judged(harness):
    listed(harness, replace(NVDA, split_from=10, split_to=1, happened=False))
    around_the_split(harness)
    found = verdict(harness.materialize(*KEY))
    assert (found.passed, found.metadata["not_judged"].value) == (True, 1)


def test_a_split_listed_on_a_second_day_is_a_warning_until_it_is_withdrawn(harness):
    early = Split(ticker="NVDA", execution_date=date(2024, 6, 7), split_to=10, happened=False)
    listed(harness, early)
    assert harness.run("2024-06-06|NVDA", "2024-06-10|NVDA", only=["1d"]).success
    found = verdict(harness.materialize(*KEY))
    assert [(r["ex-date"], round(r["seen"])) for r in table(found)] == [("2024-06-07", 1)]
    listed(harness)
    job = harness.defs.resolve_job_def("stocks_events_job")
    ops = {"stocks__corporate_events": {"config": {"everything": True}}}
    again = job.execute_in_process(instance=harness.instance, run_config={"ops": ops, "loggers": QUIET})
    assert metadata(again)["withdrawn"] == 1
    assert verdict(again).passed
