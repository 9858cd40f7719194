"""Fallback sessions and a witness by Dagster's API: materializations, metadata and checks."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.sources import POLYGON
from backfill_assets.simulator import Hole, OtherVendors
from backfill_assets_tests.dagster_harness import failure
from backfill_assets_tests.support import MOMENT, market, universe

FIRST, HALTED, LAST = date(2025, 6, 23), date(2025, 6, 25), date(2025, 6, 27)
LATE = datetime(2025, 6, 28, 12, tzinfo=UTC)
RANGE = f"{FIRST}|AAPL", f"{LAST}|MSFT"


@pytest.fixture
def small_universe():
    stocks = market("stocks", "AAPL", "MSFT", start=FIRST, timeframes="1m 5m 1d")
    return universe(replace(stocks, sources=(POLYGON, "yahoo"), witness="yahoo"))


@pytest.fixture
def yahoo(harness, monkeypatch):
    monkeypatch.setenv("YAHOO_URL", harness.vendor.url)
    monkeypatch.setenv("YAHOO_REQUESTS_PER_SECOND", "100")
    monkeypatch.setenv("BACKFILL_RETRY_FIRST_PAUSE", "1")
    for name in ("AAPL", "MSFT"):
        harness.rows("insert into corporate_event_lookups values (%s, %s, '2003-09-10', now()) returning 1", name, name)
    return harness


def checks(result, name):
    return {
        e.asset_key.path[-1]: (e.passed, e.severity, e.description)
        for e in result.get_asset_check_evaluations()
        if e.check_name == name
    }


def run(yahoo, times=1):
    for attempt in range(times):
        result = yahoo.run(*RANGE, now=MOMENT + timedelta(minutes=attempt))
        assert result.success
    return result


def test_a_filled_session_is_materialized_and_shown_as_the_fallbacks(yahoo):
    yahoo.vendor.change(holes=(Hole(ticker="AAPL", first=HALTED, last=HALTED),))
    result = run(yahoo, 5)
    found = checks(result, "bars_are_the_vendors")
    assert set(found) == {"ohlcv_1m", "ohlcv_1d"}
    passed, severity, sentence = found["ohlcv_1d"]
    assert (passed, severity) == (False, dg.AssetCheckSeverity.WARN)
    assert sentence == (
        "1 session of 1 symbol from a fallback; first AAPL 2025-06-25: filled by yahoo; polygon: vendor_empty."
    )
    assert checks(result, "no_missing_sessions")["ohlcv_1d"][0]
    for name in ("ohlcv_1m", "ohlcv_5m", "ohlcv_1d"):
        event = yahoo.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["stocks", name]), asset_partitions=[f"{HALTED}|AAPL"]), limit=1
        ).records[0]
        source = event.asset_materialization.metadata["source"].value
        assert source == "yahoo; volume: the composite by Yahoo's count"
    yahoo.vendor.change(holes=())
    result = yahoo.run(*RANGE, now=MOMENT + timedelta(hours=1), retry="EXPLAINED")
    assert checks(result, "bars_are_the_vendors")["ohlcv_1d"] == (
        True,
        dg.AssetCheckSeverity.WARN,
        "All bars are the vendor's.",
    )


def test_a_vendor_that_gives_nothing_fails_the_run_and_its_sessions_are_filled_and_marked(yahoo):
    yahoo.vendor.change(api_keys=("another",))
    result = yahoo.run(*RANGE, now=LATE)
    assert not result.success
    assert failure(result).cls_name == "KeyRefused"
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert event.step_failure_data.user_failure_data.description.startswith(
        "Polygon refuses the API key: set POLYGON_API_KEY"
    )
    assert yahoo.rows("select distinct source from market_data order by 1") == [("derived_yahoo",), ("yahoo",)]
    newest = checks(result, "latest_session_is_here")["ohlcv_1d"]
    assert newest[0], newest
    assert checks(result, "no_missing_sessions")["ohlcv_1d"][0]
    marked = yahoo.instance.get_materialized_partitions(dg.AssetKey(["stocks", "ohlcv_1d"]))
    assert len(marked) == 10


def test_one_bad_print_of_the_witness_is_named_and_changes_nothing(yahoo):
    run(yahoo)
    stored = "select symbol, session, high, low, close from witness_bars order by 1, 2"
    assert len(yahoo.rows(stored)) == 10
    assert not yahoo.rows("select 1 from market_data where source = 'yahoo'")
    bars = yahoo.rows("table market_data order by 1, 2, 3")
    yahoo.rows("delete from witness_bars returning 1")
    yahoo.vendor.change(other_vendors=OtherVendors(bad_prints=(HALTED,)))
    found = checks(run(yahoo), "sources_agree")
    passed, severity, sentence = found["ohlcv_1d"]
    assert (passed, severity) == (False, dg.AssetCheckSeverity.WARN)
    assert sentence.startswith("2 sessions of 10 disagree; newest MSFT on 2025-06-25: high is ")
    assert yahoo.rows("table market_data order by 1, 2, 3") == bars
    requests = len(yahoo.vendor.requests)
    run(yahoo)
    assert len(yahoo.vendor.requests) == requests


def test_a_session_that_only_the_witness_has_stays_open(yahoo):
    yahoo.vendor.change(
        holes=(Hole(ticker="AAPL", first=HALTED, last=HALTED, base="day"),),
        other_vendors=OtherVendors(unknown=("MSFT",)),
    )
    yahoo.rows("delete from corporate_event_lookups where symbol = 'MSFT' returning 1")
    found = checks(run(yahoo, 2), "sources_agree")
    sentence = found["ohlcv_1d"][2]
    assert sentence.startswith("1 session of 5 disagrees; newest AAPL on 2025-06-25: close is no bar, of the witness ")
    gaps = yahoo.rows("select timeframe, reason, explained, detail from backfill_gaps where gap_start < %s", LAST)
    assert gaps == [("1d", "missing", False, "the witness has a bar")]
