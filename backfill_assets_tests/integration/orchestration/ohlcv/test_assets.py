"""The OHLCV assets, run by Dagster: what a run requests, stores and materializes."""

import itertools
import time
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.cli.progress import watched
from backfill_assets.domain.retries import FIRST_PAUSE, Retry
from backfill_assets.orchestration.ohlcv import assets
from backfill_assets.orchestration.ohlcv.assets import OhlcvConfig
from backfill_assets.pipelines.backfill_request import Refresh
from backfill_assets.pipelines.progress import Silent
from backfill_assets.simulator import Fault, Hole, Restatement
from backfill_assets_tests.dagster_harness import definitions_with, failure
from backfill_assets_tests.support import KEY, MOMENT

WEEK = ("2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08")


def cells(days=WEEK, symbols=("AAPL", "MSFT")):
    return {f"{day}|{symbol}" for day, symbol in itertools.product(days, symbols)}


def requested(vendor):
    return {(r.path.split("/")[4], r.path.split("/")[7]) for r in vendor.requests}


def test_one_run_fetches_a_rectangle_and_materializes_exactly_its_partitions(harness):
    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT").success
    for timeframe in ("1m", "1d"):
        assert harness.materialized(timeframe) == cells()
        assert harness.materialized(timeframe, of="crypto") == set()
    assert requested(harness.vendor) == {(s, t) for s in ("AAPL", "MSFT") for t in ("minute", "day")}
    assert len(harness.vendor.requests) == 4
    assert harness.rows("select symbol, timeframe, count(*) from session_answers group by 1, 2 order by 1, 2") == [
        (s, t, 5) for s in ("AAPL", "MSFT") for t in ("1d", "1m")
    ]


@pytest.mark.parametrize("hole", [False, True])
def test_each_materialization_has_the_number_and_the_first_and_last_of_its_bars(harness, hole):
    if hole:
        harness.vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 5)),))
    assert harness.run("2024-03-04|AAPL", "2024-03-06|AAPL").success
    for timeframe in ("1m", "1d"):
        for day in ("2024-03-04", "2024-03-06"):
            expected = harness.rows(
                """select count(*), min(extract(epoch from timestamp))::float8, max(extract(epoch from timestamp))::float8
                   from market_data
                   where timeframe = %s and (timestamp at time zone 'America/New_York')::date = %s""",
                timeframe,
                day,
            )
            found = harness.metadata(timeframe, f"{day}|AAPL")
            assert [(found["bars"], found["first_bar"], found["last_bar"])] == expected


def test_a_clock_that_is_ahead_finishes_no_session(harness):
    """The database's clock decides, as an unfinished session would be stored as complete."""
    now = datetime.now(UTC)
    week = [(now + timedelta(days=n)).date() for n in range(9)]
    ahead = [f"{day}|BTC" for day in week if day > now.date()]
    assert harness.run(ahead[0], ahead[-1], of="crypto", now=now + timedelta(days=9)).success
    assert harness.vendor.requests == []


def test_a_hole_stays_missing_while_the_run_succeeds(harness):
    hole = date(2024, 3, 6)
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="minute"),))
    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT").success
    assert harness.materialized("1m") == cells() - {"2024-03-06|AAPL"}
    assert harness.materialized("1d") == cells()
    assert len(harness.vendor.requests) == 4
    harness.vendor.change(holes=())

    too_early = MOMENT + FIRST_PAUSE - timedelta(seconds=1)
    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT", now=too_early).success
    assert "2024-03-06|AAPL" not in harness.materialized("1m")
    assert len(harness.vendor.requests) == 4

    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT", now=MOMENT + FIRST_PAUSE).success
    assert harness.materialized("1m") == cells()
    assert len(harness.vendor.requests) == 5


def test_a_hole_is_retried_before_its_pause_is_over_if_so_configured(harness):
    hole = date(2024, 3, 6)
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="minute"),))
    assert harness.run("2024-03-04|AAPL", "2024-03-08|AAPL").success
    harness.vendor.change(holes=())
    assert harness.run("2024-03-04|AAPL", "2024-03-08|AAPL", retry="NOW").success
    assert harness.materialized("1m") == cells(symbols=("AAPL",))


def test_a_run_without_any_bars_succeeds_and_materializes_nothing(harness):
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 6), last=date(2024, 3, 6)),))
    assert harness.run("2024-03-06|AAPL").success
    assert harness.materialized("1m") == harness.materialized("1d") == set()
    assert harness.rows("select timeframe, bars from session_answers order by 1") == [("1d", 0), ("1m", 0)]


def test_a_run_may_have_a_single_partition(harness):
    assert harness.run("2024-03-06|NVDA").success
    for timeframe in ("1m", "1d"):
        assert harness.materialized(timeframe) == {"2024-03-06|NVDA"}
    assert harness.metadata("1d", "2024-03-06|NVDA")["bars"] == 1


def test_a_run_over_stored_bars_sends_nothing_and_materializes_them_again(harness):
    harness.run("2024-03-04|AAPL", "2024-03-08|MSFT")
    sent = len(harness.vendor.requests)
    before = harness.rows("select xmin::text, * from market_data order by 2, 3, 4")
    again = harness.run("2024-03-04|AAPL", "2024-03-08|MSFT")
    assert again.success
    assert len(harness.vendor.requests) == sent
    assert harness.rows("select xmin::text, * from market_data order by 2, 3, 4") == before
    events = harness.instance.all_logs(again.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert len(events) == 2 * len(cells())


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_one_timeframe_can_be_run_alone(harness, timeframe):
    assert harness.run("2024-03-06|AAPL", only=[timeframe]).success
    assert {t: harness.materialized(t) for t in ("1m", "1d")} == {"1m": set(), "1d": set()} | {
        timeframe: {"2024-03-06|AAPL"}
    }
    assert harness.rows("select distinct timeframe from market_data") == [(timeframe,)]
    assert len(harness.vendor.requests) == 1


def test_the_config_narrows_a_run_to_symbols(harness):
    assert harness.run("2024-03-04|AAPL", "2024-03-05|NVDA", symbols=["AAPL", "NVDA"]).success
    wanted = cells(WEEK[:2], ("AAPL", "NVDA"))
    assert harness.materialized("1m") == harness.materialized("1d") == wanted
    assert {s for s, _ in requested(harness.vendor)} == {"AAPL", "NVDA"}


@pytest.mark.parametrize(
    ("now", "finished"),
    [
        pytest.param("2024-03-06T12:00-05:00", WEEK[:2], id="while the market is open"),
        pytest.param("2024-03-07T01:14:59+00:00", WEEK[:2], id="a second before the bars are settled"),
        pytest.param("2024-03-07T01:15:00+00:00", WEEK[:3], id="when the bars are settled"),
    ],
)
def test_sessions_that_have_not_finished_are_not_requested(harness, now, finished):
    assert harness.run("2024-03-04|AAPL", "2024-03-08|AAPL", now=datetime.fromisoformat(now)).success
    assert harness.materialized("1m") == harness.materialized("1d") == cells(finished, ("AAPL",))
    assert {r.path.split("/")[9] for r in harness.vendor.requests} == {finished[-1]}
    assert harness.rows("select distinct session::text from session_answers order by 1") == [(d,) for d in finished]


def test_crypto_days_are_utc_days_and_include_weekends(harness):
    weekend = ("2024-03-09", "2024-03-10")
    assert harness.run("2024-03-09|BTC", "2024-03-10|ETH", of="crypto").success
    assert harness.materialized("1m", of="crypto") == cells(weekend, ("BTC", "ETH"))
    assert {s for s, _ in requested(harness.vendor)} == {"X:BTCUSD", "X:ETHUSD"}
    first = datetime.fromtimestamp(harness.metadata("1m", "2024-03-09|BTC", of="crypto")["first_bar"], UTC)
    assert first == datetime(2024, 3, 9, tzinfo=UTC)
    assert harness.rows("select distinct symbol from market_data order by 1") == [("BTC",), ("ETH",)]


def test_closed_days_are_not_in_a_range(harness):
    assert harness.run("2024-07-03|AAPL", "2024-07-08|AAPL", only=["1d"]).success
    assert harness.materialized("1d") == cells(("2024-07-03", "2024-07-05", "2024-07-08"), ("AAPL",))


class FirstShown(Silent):
    """At the first answer for another symbol, waits until Dagster shows the bars of the first one."""

    def __init__(self, harness):
        self.platform, self.shown = harness, set()

    def answered(self, request, *_):
        if request.label != "AAPL" and not self.shown:
            end = time.monotonic() + 60
            while time.monotonic() < end and not self.shown:
                self.shown = self.platform.materialized("1m")


def test_dagster_shows_the_first_symbols_bars_while_others_are_being_fetched(harness, monkeypatch):
    monkeypatch.setattr(assets, "BATCH", len(WEEK))
    listener = FirstShown(harness)
    harness.defs = definitions_with(watched(listener), harness.universe)
    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT", max_concurrent=1).success
    assert listener.shown == cells(symbols=("AAPL",))
    assert harness.materialized("1m") == cells()
    (run,) = harness.instance.get_runs()
    events = harness.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert len(events) == 2 * len(cells())  # each is recorded once


def test_the_next_run_materializes_what_a_run_that_ended_early_stored(harness, monkeypatch):
    """The key is withdrawn during the run: what was stored before is kept, and finally shown."""
    monkeypatch.setattr(assets, "BATCH", 1)
    harness.vendor.change(faults=(Fault(kind="status", status=401, ticker="MSFT"),))
    assert not harness.run("2024-03-04|AAPL", "2024-03-08|MSFT", max_concurrent=1).success
    assert harness.materialized("1m") <= cells(symbols=("AAPL",))
    harness.vendor.change(faults=())
    assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT").success
    assert harness.materialized("1m") == harness.materialized("1d") == cells()


def test_a_failed_series_fails_the_run_and_the_rest_is_materialized(harness):
    harness.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/minute/"),))
    result = harness.run("2024-03-04|AAPL", "2024-03-08|NVDA")
    assert not result.success
    error = failure(result)
    assert error.cls_name == "SeriesFailed"
    assert "1 of 6 series could not be fetched completely: MSFT 1m: Polygon does not know" in error.message
    everybody = ("AAPL", "MSFT", "NVDA")
    assert harness.materialized("1m") == cells(symbols=("AAPL", "NVDA"))
    assert harness.materialized("1d") == cells(symbols=everybody)
    assert harness.rows("select distinct symbol from market_data where timeframe = '1m' order by 1") == [
        ("AAPL",),
        ("NVDA",),
    ]


def test_a_refused_key_fails_the_run_after_one_request(harness):
    harness.vendor.change(api_keys=("another",))
    result = harness.run("2024-03-04|AAPL", "2024-03-08|NVDA")
    assert failure(result).cls_name == "KeyRefused"
    assert len(harness.vendor.requests) == 1
    assert harness.materialized("1m") == set()
    assert harness.rows("select count(*) from session_answers") == [(0,)]


def test_a_refresh_fetches_stored_sessions_again(harness):
    harness.run("2024-03-04|AAPL", "2024-03-06|AAPL", only=["1d"])
    harness.vendor.change(restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 5), factor=1.1),))
    (before,) = harness.rows("select array_agg(close order by timestamp) from market_data")
    assert harness.run("2024-03-04|AAPL", "2024-03-06|AAPL", only=["1d"], refresh="EVERYTHING").success
    (after,) = harness.rows("select array_agg(close order by timestamp) from market_data")
    assert len(harness.vendor.requests) == 2
    assert [b == a for b, a in zip(before[0], after[0], strict=True)] == [True, False, True]


def test_the_key_is_in_no_event_and_no_config(harness):
    harness.run("2024-03-06|AAPL")
    harness.vendor.change(api_keys=("another",))
    harness.run("2024-03-07|AAPL")
    for run in harness.instance.get_runs():
        assert KEY not in dg.serialize_value(run)
        events = [dg.serialize_value(entry) for entry in harness.instance.all_logs(run.run_id)]
        assert events
        assert not [e for e in events if KEY in e]


def test_materializations_of_a_run_with_holes_have_its_step_key(harness):
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 5)),))
    result = harness.run("2024-03-04|AAPL", "2024-03-06|AAPL", only=["1d"])
    stored = harness.instance.all_logs(result.run_id, of_type={dg.DagsterEventType.ASSET_MATERIALIZATION})
    assert [(e.dagster_event.partition, e.step_key, e.run_id) for e in stored] == [
        (f"{day}|AAPL", "stocks_ohlcv", result.run_id) for day in ("2024-03-04", "2024-03-06")
    ]


def test_the_config_is_validated_and_has_defaults():
    with pytest.raises(ValueError, match="max_concurrent"):
        OhlcvConfig(max_concurrent=0)
    assert OhlcvConfig().model_dump() == {
        "max_concurrent": 3,
        "symbols": [],
        "refresh": Refresh.NOTHING,
        "retry": Retry.DUE,
    }
