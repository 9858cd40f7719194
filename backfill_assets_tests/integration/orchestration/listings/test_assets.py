"""The asset of listing dates, run by Dagster: whom it asks about, what it keeps, and what follows for the bars."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from backfill_assets.simulator import Fault
from backfill_assets_tests.dagster_harness import definitions, failure
from backfill_assets_tests.integration.orchestration.universes import ASSETS as UNIVERSE
from backfill_assets_tests.surroundings import MOMENT

KEY = dg.AssetKey(["stocks", "listings"])


def asked(platform):
    return [r.path.split("/")[-1] for r in platform.vendor.requests if "/reference/" in r.path]


def known(platform):
    return {s: rest for s, *rest in platform.rows("select symbol, listed, delisted, checked_at from listings")}


def told(result):
    (event,) = [e for e in result.all_events if e.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    return {name: value.value for name, value in metadata.items() if "/" not in name}


def test_the_dates_of_all_symbols_are_kept(platform):
    platform.vendor.change(listed={"NVDA": date(2024, 3, 5)})
    result = platform.materialize("stocks", "listings")
    assert result.success
    found = known(platform)
    assert set(found) == {"AAPL", "MSFT", "NVDA"}
    assert found["NVDA"] == [date(2024, 3, 5), None, MOMENT]
    assert told(result) == {"symbols": 3, "looked_up": 3, "without_a_listing_date": 0, "delisted": "none"}


def test_what_was_asked_lately_is_not_asked_again(platform):
    platform.materialize("stocks", "listings")
    first = asked(platform)
    again = platform.materialize("stocks", "listings", now=MOMENT + timedelta(days=6, seconds=-1))
    assert asked(platform) == first
    assert told(again)["looked_up"] == 0
    week = platform.materialize("stocks", "listings", now=MOMENT + timedelta(days=7))
    assert asked(platform) == 2 * first
    assert told(week)["looked_up"] == 3
    assert {checked for *_, checked in known(platform).values()} == {MOMENT + timedelta(days=7)}


def test_who_trades_no_more_is_named_with_the_last_day(platform):
    platform.vendor.change(delisted={"MSFT": date(2024, 3, 6)}, delisted_details="dated")
    assert told(platform.materialize("stocks", "listings"))["delisted"] == "MSFT 2024-03-06"


def test_one_that_fails_fails_the_run_and_what_was_answered_before_stays(platform):
    platform.vendor.change(faults=(Fault(kind="status", status=403, ticker="MSFT", path="/reference/"),))
    result = platform.materialize("stocks", "listings")
    assert not result.success
    assert failure(result).cls_name == "NotEntitled"
    assert set(known(platform)) == {"AAPL"}
    platform.vendor.change(faults=())
    assert told(platform.materialize("stocks", "listings"))["looked_up"] == 2


def test_sessions_before_a_listing_are_neither_asked_for_nor_missed(platform):
    platform.vendor.change(listed={"NVDA": date(2024, 3, 6)})
    platform.materialize("stocks", "listings")
    assert platform.run("2024-03-04|NVDA", "2024-03-08|NVDA", only=["1d"]).success
    assert platform.materialized("1d") == {f"2024-03-0{d}|NVDA" for d in (6, 7, 8)}
    assert platform.rows("select min(session), count(*) from session_answers") == [(date(2024, 3, 6), 3)]


def test_a_run_that_finds_nothing_at_its_edge_looks_the_symbol_up(platform):
    platform.vendor.change(listed={"NVDA": date(2024, 3, 6)})
    assert platform.run("2024-03-04|AAPL", "2024-03-08|NVDA", only=["1d"]).success
    assert set(asked(platform)) == {"NVDA"}
    assert {s: listed for s, (listed, *_) in known(platform).items()} == {"NVDA": date(2024, 3, 6)}


def test_a_look_up_that_fails_does_not_fail_the_run_of_bars(platform):
    platform.vendor.change(
        listed={"NVDA": date(2024, 3, 6)},
        faults=(Fault(kind="status", status=403, ticker="NVDA", path="/reference/"),),
    )
    assert platform.run("2024-03-04|AAPL", "2024-03-08|NVDA", only=["1d"]).success
    assert known(platform) == {}


def test_coins_have_no_listings():
    keys = definitions(UNIVERSE).resolve_asset_graph().get_all_asset_keys()
    assert [key for key in keys if key.path[-1] == "listings"] == [KEY]


def test_the_instant_of_a_look_up_is_the_clocks(platform):
    at = datetime(2025, 7, 6, 5, tzinfo=UTC)
    platform.materialize("stocks", "listings", now=at)
    assert {checked for *_, checked in known(platform).values()} == {at}
