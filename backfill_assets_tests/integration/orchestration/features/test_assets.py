"""The feature assets, run by Dagster: what is computed and materialized, also after late splits and crashes."""

import asyncio
import itertools
from datetime import UTC, date, datetime

import dagster as dg
import numpy as np
import pytest

from backfill_assets.adapters.store import features as store
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction, ListedActions
from backfill_assets.domain.features import COLUMNS, LOOK_BACK, compute_range
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.features import FeatureRequest, compute_features
from backfill_assets.simulator import Hole
from backfill_assets_tests.dagster_harness import definitions, failure
from backfill_assets_tests.support import MOMENT, market, stored_bars, universe
from backfill_assets_tests.unit.domain.walks import NEW_YORK

WEEK = ("2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08")
NAMES = [column.name for column in COLUMNS]
LATE_SPLIT = date(2024, 3, 6)


def cells(days=WEEK, symbols=("AAPL", "MSFT")):
    return {f"{day}|{symbol}" for day, symbol in itertools.product(days, symbols)}


def compute(harness, first="2024-03-04|AAPL", last="2024-03-08|MSFT", **options):
    return harness.run(first, last, family="features", **options)


@pytest.fixture
def fetched(harness):
    """A harness with the bars of the week for two symbols."""

    def fetch():
        assert harness.run("2024-03-04|AAPL", "2024-03-08|MSFT").success

    harness.start_from("fetched", fetch)
    return harness


def rows(harness, symbol, timeframe):
    """Return the stored features of a series, ascending, NaN for null."""
    found = harness.rows(
        f"select {', '.join(NAMES)} from market_features "  # noqa: S608  # names of the catalog
        "where symbol = %s and timeframe = %s order by timestamp",
        symbol,
        timeframe,
    )
    return np.array(found, dtype=np.float64).reshape(-1, len(NAMES))


def writers(harness, table, symbol, timeframe):
    """Return by bar start the transaction that wrote the row."""
    query = f"select timestamp, xmin::text from {table} where symbol = %s and timeframe = %s"  # noqa: S608  # our own names
    return dict(harness.rows(query, symbol, timeframe))


def waiting(harness):
    """Return the stale series."""
    stocks = harness.universe.markets[0]
    with store.FeatureStore(harness.database_url) as table:
        return table.stale([s.name for s in stocks.symbols], stocks.timeframes)


def materialized(harness, timeframe="1m"):
    return harness.materialized(timeframe, family="features")


# --- Runs


def test_every_bar_gets_its_row_and_every_partition_with_bars_is_materialized(fetched, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    sent = len(fetched.vendor.requests)
    assert compute(fetched).success
    for timeframe in ("1m", "1d"):
        assert materialized(fetched, timeframe) == cells()
        for symbol in ("AAPL", "MSFT"):
            expected = compute_range(
                stored_bars(fetched.database_url, symbol, timeframe), TIMEFRAMES[timeframe], NEW_YORK
            )
            np.testing.assert_array_equal(rows(fetched, symbol, timeframe), expected)
    assert len(fetched.vendor.requests) == sent
    assert waiting(fetched) == []


def test_a_materialization_has_the_number_and_the_first_and_last_of_its_bars(fetched):
    compute(fetched)
    for timeframe in ("1m", "1d"):
        of_bars = fetched.metadata(timeframe, "2024-03-06|MSFT")
        assert fetched.metadata(timeframe, "2024-03-06|MSFT", family="features") == of_bars


def test_without_bars_a_run_succeeds_and_materializes_nothing(harness):
    result = compute(harness)
    assert result.success
    assert materialized(harness) == materialized(harness, "1d") == set()
    assert harness.vendor.requests == []


def test_sessions_without_bars_stay_missing(harness):
    day = date(2024, 3, 6)
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=day, last=day, base="minute"),))
    harness.run("2024-03-04|AAPL", "2024-03-08|MSFT")
    assert compute(harness).success
    assert materialized(harness) == cells() - {"2024-03-06|AAPL"}
    assert materialized(harness, "1d") == cells()


def test_a_session_with_a_missing_row_stays_missing_although_nothing_is_stale(fetched):
    computed_unseen(fetched)
    fetched.rows(
        "delete from market_features where symbol = 'AAPL' and timeframe = '1m' and timestamp = %s returning 1",
        datetime(2024, 3, 6, 15, tzinfo=UTC),
    )
    assert compute(fetched).success
    assert materialized(fetched) == cells() - {"2024-03-06|AAPL"}
    assert materialized(fetched, "1d") == cells()


def computed_unseen(harness):
    """Compute all features of the week, without materializing them in Dagster."""
    stocks = harness.universe.markets[0]
    days = (date(2024, 3, 4), date(2024, 3, 8))
    request = FeatureRequest(stocks, dict.fromkeys(stocks.symbols, days), stocks.timeframes)
    with store.FeatureStore(harness.database_url) as table:
        asyncio.run(compute_features(request, table))


def test_days_and_symbols_narrow_what_is_computed(fetched):
    assert compute(fetched, "2024-03-05|AAPL", "2024-03-06|MSFT", symbols=["MSFT"]).success
    wanted = cells(("2024-03-05", "2024-03-06"), ("MSFT",))
    assert materialized(fetched) == materialized(fetched, "1d") == wanted
    found = fetched.rows(
        """select distinct symbol, (timestamp at time zone 'America/New_York')::date::text
           from market_features order by 2"""
    )
    assert found == [("MSFT", "2024-03-05"), ("MSFT", "2024-03-06")]


def test_a_run_over_symbols_outside_its_partitions_does_nothing(fetched):
    assert compute(fetched, symbols=["NVDA"]).success
    assert materialized(fetched) == set()


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_one_timeframe_can_be_run_alone(fetched, timeframe):
    assert compute(fetched, only=[timeframe]).success
    assert {t: materialized(fetched, t) for t in ("1m", "1d")} == {"1m": set(), "1d": set()} | {timeframe: cells()}


def test_rows_that_are_up_to_date_are_rewritten_by_a_full_run_only(fetched):
    compute(fetched)
    before = writers(fetched, "market_features", "AAPL", "1m")
    assert compute(fetched).success
    assert writers(fetched, "market_features", "AAPL", "1m") == before
    values = rows(fetched, "AAPL", "1m")
    assert compute(fetched, full=True).success
    again = writers(fetched, "market_features", "AAPL", "1m")
    assert again.keys() == before.keys()
    assert not set(again.values()) & set(before.values())
    np.testing.assert_array_equal(rows(fetched, "AAPL", "1m"), values)


def test_crypto_has_features_too(harness):
    harness.run("2024-03-09|BTC", "2024-03-10|ETH", of="crypto")
    assert compute(harness, "2024-03-09|BTC", "2024-03-10|ETH", of="crypto").success
    both = cells(("2024-03-09", "2024-03-10"), ("BTC", "ETH"))
    assert harness.materialized("1m", of="crypto", family="features") == both


def test_unusable_bars_fail_the_run_and_the_rest_is_computed_and_materialized(fetched):
    fetched.rows("update market_data set close = 'NaN' where symbol = 'AAPL' and timeframe = '1d' returning 1")
    result = compute(fetched)
    assert not result.success
    assert failure(result).cls_name == "UnusableBars"
    assert "AAPL 1d: the bar of 2024-03-04 05:00 UTC has a price or a volume" in failure(result).message
    assert materialized(fetched) == cells()
    assert materialized(fetched, "1d") == cells(symbols=("MSFT",))


# --- Interruptions


# --- Splits


def record(harness, *splits):
    """Store all splits of AAPL, as an update of corporate actions does."""
    events = tuple(CorporateAction("AAPL", ActionKind.SPLIT, ex_date, 1.0, 4.0) for ex_date in splits)
    listed = ListedActions(date(2024, 1, 2), events, frozenset({("AAPL", ActionKind.SPLIT)}))
    with CorporateActionStore(harness.database_url, connections=1) as table:
        table.record(["AAPL"], listed, [Symbol("AAPL", "AAPL")], MOMENT, NEW_YORK)


def test_a_late_split_recomputes_only_rows_that_depend_on_it_and_no_bar(fetched):
    compute(fetched)
    old = {t: writers(fetched, "market_features", "AAPL", t) for t in ("1m", "1d")}
    other = {t: writers(fetched, "market_features", "MSFT", t) for t in ("1m", "1d")}
    bars = {t: writers(fetched, "market_data", "AAPL", t) for t in ("1m", "1d")}
    record(fetched, LATE_SPLIT)
    assert compute(fetched).success
    at = datetime(2024, 3, 6, tzinfo=NEW_YORK)
    new = {t: writers(fetched, "market_features", "AAPL", t) for t in ("1m", "1d")}
    touched = {t: [stamp for stamp in new[t] if new[t][stamp] != old[t][stamp]] for t in new}
    assert touched["1d"] == [stamp for stamp in new["1d"] if stamp >= at]
    assert touched["1m"] == [stamp for stamp in new["1m"] if stamp >= at][:LOOK_BACK]
    assert {t: writers(fetched, "market_features", "MSFT", t) for t in ("1m", "1d")} == other
    assert {t: writers(fetched, "market_data", "AAPL", t) for t in ("1m", "1d")} == bars
    for timeframe in ("1m", "1d"):
        expected = compute_range(
            stored_bars(fetched.database_url, "AAPL", timeframe),
            TIMEFRAMES[timeframe],
            NEW_YORK,
            [SplitRatio(LATE_SPLIT, 1, 4)],
        )
        np.testing.assert_allclose(rows(fetched, "AAPL", timeframe), expected, rtol=1e-9, atol=1e-9)


# --- Bars and features


def test_each_timeframe_depends_on_the_bars_of_the_same():
    graph = definitions(universe(market("stocks", "AAPL", timeframes=" ".join(TIMEFRAMES)))).resolve_asset_graph()
    for timeframe in TIMEFRAMES:
        node = graph.get(dg.AssetKey(["stocks", f"features_{timeframe}"]))
        assert node.parent_keys == {dg.AssetKey(["stocks", f"ohlcv_{timeframe}"])}
        assert node.partitions_def == graph.get(dg.AssetKey(["stocks", f"ohlcv_{timeframe}"])).partitions_def
