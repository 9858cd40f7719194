"""The sensor that keeps features up to date. In place of the daemon, the tests execute the requested runs."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.deployment.private_api import launch_backfill
from backfill_assets.deployment.runs import PROCESS_TAG, this_process
from backfill_assets.orchestration.resources import MarketStore
from backfill_assets.simulator import Restatement
from backfill_assets_tests.dagster_harness import FixedClock
from backfill_assets_tests.integration.orchestration.universes import create_run, range_tags
from backfill_assets_tests.support import MOMENT

CORNERS = ("2025-06-16|AAPL", "2025-06-30|NVDA")
QUIET = "stocks: all features are up to date. crypto: all features are up to date."
OUTCOMES = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED]


def tick(harness, now=MOMENT):
    """Tick at an instant; return the run requests by job, and the skip message."""
    defs = harness.definitions(now)
    with dg.build_sensor_context(
        instance=harness.instance,
        repository_def=defs.get_repository_def(),
        resources={"clock": FixedClock(at=now.isoformat()), "store": MarketStore()},
    ) as context:
        data = defs.resolve_sensor_def("stale_features").evaluate_tick(context)
    return {request.job_name: request for request in data.run_requests}, data.skip_message


def only_request(harness, now=MOMENT):
    requests, _ = tick(harness, now)
    (request,) = requests.values()
    return request


def corners(request):
    return tuple(request.tags[f"dagster/asset_partition_range_{edge}"] for edge in ("start", "end"))


def symbols(request):
    """Return the symbols in the config, [] for all."""
    (op,) = request.run_config["ops"].values()
    return op["config"].get("symbols", [])


def execute(harness, request, **options):
    market_name = request.job_name.removesuffix("_features_job")
    only = [key.path[-1].removeprefix("features_") for key in request.asset_selection]
    result = harness.run(
        *corners(request), of=market_name, family="features", only=only, symbols=symbols(request), **options
    )
    assert result.success


@pytest.fixture
def computed(harness):
    """A harness with all bars and features of the stocks."""

    def compute():
        assert harness.run(*CORNERS).success
        execute(harness, only_request(harness))

    harness.start_from("computed", compute)
    return harness


def test_without_bars_nothing_is_requested(harness):
    assert tick(harness) == ({}, QUIET)


def test_new_bars_are_one_run_over_all_their_sessions_and_symbols(fetched, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")  # none is needed
    request = only_request(fetched)
    assert request.job_name == "stocks_features_job"
    assert corners(request) == CORNERS
    assert symbols(request) == []
    assert request.asset_selection == [dg.AssetKey(["stocks", f"features_{t}"]) for t in ("1d", "1w")]
    assert request.tags["backfill/trigger"] == "stale features"


def test_once_the_run_was_executed_nothing_is_requested(computed):
    assert tick(computed) == ({}, QUIET)
    for timeframe in ("1d", "1w"):
        assert len(computed.materialized(timeframe, family="features")) == 30


def test_each_market_has_its_own_run(fetched):
    assert fetched.run("2025-06-28|BTC", "2025-06-30|BTC", of="crypto").success
    requests, _ = tick(fetched)
    assert set(requests) == {"stocks_features_job", "crypto_features_job"}
    assert corners(requests["crypto_features_job"]) == ("2025-06-28|BTC", "2025-06-30|BTC")


def test_a_restated_bar_requests_its_symbol_from_its_day_on(computed):
    computed.vendor.change(restatements=(Restatement(ticker="MSFT", day=date(2025, 6, 24), factor=1.01),))
    assert computed.run("2025-06-24|MSFT", "2025-06-24|MSFT", refresh="EVERYTHING", only=["1d"]).success
    request = only_request(computed)
    assert corners(request) == ("2025-06-23|MSFT", "2025-06-30|MSFT")  # from the Monday of its week
    assert symbols(request) == ["MSFT"]


def test_symbols_between_two_stale_ones_are_left_out(computed):
    stale(computed, "AAPL", "1d", "2025-06-20")
    stale(computed, "NVDA", "1d", "2025-06-26")
    request = only_request(computed)
    assert corners(request) == ("2025-06-20|AAPL", "2025-06-26|NVDA")
    assert symbols(request) == ["AAPL", "NVDA"]
    assert request.asset_selection == [dg.AssetKey(["stocks", "features_1d"])]


def stale(harness, symbol, timeframe, day):
    """Mark the row of one day as stale."""
    start = datetime.fromisoformat(day).replace(hour=4, tzinfo=UTC)  # midnight in New York
    harness.rows(
        "insert into feature_marks (symbol, timeframe, stale) values (%s, %s, tstzrange(%s, %s)) returning 1",
        symbol,
        timeframe,
        start,
        start + timedelta(days=1),
    )


def test_a_week_is_computed_over_its_sessions_although_it_is_stamped_on_a_sunday(computed):
    stale(computed, "MSFT", "1w", "2025-06-22")
    request = only_request(computed)
    assert corners(request) == ("2025-06-23|MSFT", "2025-06-27|MSFT")
    execute(computed, request)
    assert tick(computed) == ({}, QUIET)


def test_the_current_week_ends_with_the_last_finished_session(computed):
    stale(computed, "MSFT", "1w", "2025-06-29")
    assert corners(only_request(computed)) == ("2025-06-30|MSFT", "2025-06-30|MSFT")


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [
        pytest.param("2025-06-19", "2025-06-18", "2025-06-20", id="a holiday"),
        pytest.param("2025-06-22", "2025-06-20", "2025-06-23", id="a Sunday"),
    ],
)
def test_a_bar_of_a_closed_day_is_covered_by_the_sessions_around_it(computed, day, start, end):
    """Such bars exist if a closure was added after they had been fetched."""
    at = datetime.fromisoformat(day).replace(hour=4, tzinfo=UTC)
    computed.rows(
        """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
           values ('AAPL', '1d', %s, 1, 1, 1, 1, 1, 'polygon') returning 1""",
        at,
    )
    stale(computed, "AAPL", "1d", day)
    request = only_request(computed)
    assert corners(request) == (f"{start}|AAPL", f"{end}|AAPL")
    execute(computed, request)
    assert tick(computed) == ({}, QUIET)


def test_bars_before_the_first_day_are_ignored(computed):
    at = datetime(2025, 6, 2, 4, tzinfo=UTC)
    computed.rows(
        """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
           values ('AAPL', '1d', %s, 1, 1, 1, 1, 1, 'polygon') returning 1""",
        at,
    )
    stale(computed, "AAPL", "1d", "2025-06-02")
    assert tick(computed) == ({}, QUIET)


# --- Waiting


@pytest.mark.parametrize("status", OUTCOMES)
@pytest.mark.parametrize(
    ("family", "what"), [("features", "of its features"), ("ohlcv", "of its bars")], ids=["features", "ohlcv"]
)
def test_the_sensor_waits_for_runs_of_the_market(fetched, status, family, what):
    run = create_run(fetched.instance, status, range_tags(*CORNERS), job_name=f"stocks_{family}_job")
    message = f"stocks: waits for run {run.run_id[:8]} {what}. crypto: all features are up to date."
    assert tick(fetched) == ({}, message)
    fetched.instance.report_run_failed(run)
    assert corners(only_request(fetched)) == CORNERS


def test_the_sensor_waits_for_backfills_of_the_bars(fetched):
    backfill = launch_backfill(
        fetched.instance,
        fetched.defs.get_repository_def(),
        [dg.AssetKey(["stocks", "ohlcv_1d"])],
        [("2025-06-20|MSFT", "2025-06-20|NVDA")],
        title="By hand",
        tags={},
        at=MOMENT,
    )
    assert tick(fetched)[1].startswith(f"stocks: waits for backfill {backfill} of its bars.")


def test_the_sensor_does_not_wait_for_other_markets_or_checks(fetched):
    create_run(fetched.instance, dg.DagsterRunStatus.STARTED, {}, job_name="crypto_ohlcv_job")
    create_run(fetched.instance, dg.DagsterRunStatus.STARTED, {}, job_name="stocks_ohlcv_checks")
    assert corners(only_request(fetched)) == CORNERS


def test_a_run_whose_process_died_is_marked_as_failed(fetched):
    tags = range_tags(*CORNERS) | this_process() | {PROCESS_TAG: f"{2**22 + 1}@1.00"}
    dead = create_run(fetched.instance, dg.DagsterRunStatus.STARTED, tags, job_name="stocks_features_job")
    assert corners(only_request(fetched)) == CORNERS
    assert fetched.instance.get_run_by_id(dead.run_id).status is dg.DagsterRunStatus.FAILURE


# --- Run keys


def test_the_same_state_has_one_run_an_hour(fetched):
    keys = [only_request(fetched, MOMENT + timedelta(minutes=m)).run_key for m in (0, 1, 59, 60)]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_further_change_has_a_new_run_key(computed):
    stale(computed, "AAPL", "1d", "2025-06-20")
    before = only_request(computed).run_key
    stale(computed, "AAPL", "1d", "2025-06-20")
    assert only_request(computed).run_key != before
