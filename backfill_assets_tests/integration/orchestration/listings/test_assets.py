"""The asset of listing dates, run by Dagster, and its effect on runs of the bars."""

from datetime import date, timedelta

import dagster as dg

from backfill_assets.simulator import Fault
from backfill_assets_tests.dagster_harness import failure
from backfill_assets_tests.support import MOMENT

KEY = dg.AssetKey(["stocks", "listings"])


def requested(harness):
    return [r.path.split("/")[-1] for r in harness.vendor.requests if "/v3/reference/" in r.path]


def known(harness):
    return {s: rest for s, *rest in harness.rows("select symbol, listed, delisted, checked_at from listings")}


def metadata_of(result):
    (event,) = [e for e in result.all_events if e.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    return {name: value.value for name, value in metadata.items() if "/" not in name}


def test_the_dates_of_all_symbols_are_stored(harness):
    harness.vendor.change(listed={"NVDA": date(2024, 3, 5)})
    result = harness.materialize("stocks", "listings")
    assert result.success
    found = known(harness)
    assert set(found) == {"AAPL", "MSFT", "NVDA"}
    assert found["NVDA"] == [date(2024, 3, 5), None, MOMENT]
    none = dict.fromkeys(("refuted_by_bars", "unknown", "delisted"), "none")
    assert metadata_of(result) == {"symbols": 3, "looked_up": 3, "without_a_listing_date": 0} | none
    changes = harness.rows("select symbol, day, ticker from ticker_changes order by 1")
    assert changes[-1] == ("NVDA", date(2024, 3, 5), "NVDA")


def test_doubtful_listings_and_unknown_tickers_are_named(harness):
    harness.vendor.change(list_dates={"NVDA": date(2024, 3, 6)}, known=("AAPL", "NVDA"))
    assert harness.run("2024-03-05|NVDA", "2024-03-08|NVDA", only=["1d"]).success
    metadata = metadata_of(harness.materialize("stocks", "listings"))
    assert (metadata["refuted_by_bars"], metadata["unknown"]) == ("NVDA", "MSFT")


def test_recent_look_ups_are_not_repeated(harness):
    harness.materialize("stocks", "listings")
    first = requested(harness)
    again = harness.materialize("stocks", "listings", now=MOMENT + timedelta(days=6, seconds=-1))
    assert requested(harness) == first
    assert metadata_of(again)["looked_up"] == 0
    week = harness.materialize("stocks", "listings", now=MOMENT + timedelta(days=7))
    assert requested(harness) == 2 * first
    assert metadata_of(week)["looked_up"] == 3
    assert {checked for *_, checked in known(harness).values()} == {MOMENT + timedelta(days=7)}


def test_delisted_symbols_are_named_with_their_last_day(harness):
    harness.vendor.change(delisted={"MSFT": date(2024, 3, 6)}, delisted_details="dated")
    assert metadata_of(harness.materialize("stocks", "listings"))["delisted"] == "MSFT 2024-03-06"


def test_a_failed_look_up_fails_the_run_and_keeps_earlier_ones(harness):
    harness.vendor.change(faults=(Fault(kind="status", status=403, ticker="MSFT", path="/reference/"),))
    result = harness.materialize("stocks", "listings")
    assert not result.success
    assert failure(result).cls_name == "NotEntitled"
    assert set(known(harness)) == {"AAPL"}
    harness.vendor.change(faults=())
    assert metadata_of(harness.materialize("stocks", "listings"))["looked_up"] == 2


def test_sessions_before_a_listing_are_not_missing_and_requested_in_the_week_before_only(harness):
    harness.vendor.change(listed={"NVDA": date(2024, 3, 6)})
    harness.materialize("stocks", "listings")
    assert harness.run("2024-02-20|NVDA", "2024-03-08|NVDA", only=["1d"]).success
    assert harness.materialized("1d") == {f"2024-03-0{d}|NVDA" for d in (6, 7, 8)}
    assert harness.rows("select min(session), count(*) from session_answers") == [(date(2024, 2, 28), 8)]


def test_a_run_without_bars_at_its_edge_looks_the_symbol_up(harness):
    harness.vendor.change(listed={"NVDA": date(2024, 3, 6)})
    assert harness.run("2024-03-04|AAPL", "2024-03-08|NVDA", only=["1d"]).success
    assert set(requested(harness)) == {"NVDA"}
    assert {s: listed for s, (listed, *_) in known(harness).items()} == {"NVDA": date(2024, 3, 6)}


def test_a_look_up_that_fails_does_not_fail_the_run_of_bars(harness):
    harness.vendor.change(
        listed={"NVDA": date(2024, 3, 6)},
        faults=(Fault(kind="status", status=403, ticker="NVDA", path="/reference/"),),
    )
    assert harness.run("2024-03-04|AAPL", "2024-03-08|NVDA", only=["1d"]).success
    assert known(harness) == {}
