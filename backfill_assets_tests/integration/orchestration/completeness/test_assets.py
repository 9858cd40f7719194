"""The completeness assets, run by Dagster: what a materialization tells, and what leads to it."""

import re
from datetime import date, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.completeness import Completeness, Counts
from backfill_assets.orchestration.keys import completeness_key
from backfill_assets.simulator import Hole
from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.universes import ASSETS as UNIVERSE
from backfill_assets_tests.support import MOMENT, market, trading_calendar, universe

FIRST = date(2025, 6, 16)
SMALL = universe(market("stocks", "AAPL", "MSFT", start=FIRST), market("crypto", "BTC", start=date(2025, 6, 28)))


@pytest.fixture
def small_universe():
    return SMALL


def told(harness, of="stocks"):
    """The metadata of a new measurement, as plain values."""
    result = harness.materialize(of, "completeness")
    assert result.success
    (event,) = result.asset_materializations_for_node(f"{of}__completeness")
    assert all(not isinstance(v, dg.TextMetadataValue) or len(v.value) < 100 for v in event.metadata.values())
    return {name: entry.value for name, entry in event.metadata.items()}


def test_numbers_tell_sessions_and_the_matrix_shows_them(harness):
    hole = date(2025, 6, 18)
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole),))
    harness.run("2025-06-16|AAPL", "2025-06-30|MSFT")
    found = told(harness)
    matrix = found.pop("matrix")
    assert found == {
        "complete_percent": 95.0,
        "missing_sessions": 1,
        "partial_sessions": 0,
        "explained_sessions": 0,
        "repair": "backfill repair --symbols AAPL",
    }
    assert matrix.startswith("2025-06-16 to 2025-06-30: 95.0% complete; 1 missing of 20 sessions.\n")
    assert re.search(r"\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)\n", matrix)
    last = harness.rows("select max(timestamp) from market_data where symbol = 'AAPL'")[0][0]
    row = f"| AAPL | ✗ 90.0% | ✗ 90.0% | 2 | 0 | {last:%Y-%m-%d %H:%M} |"
    assert row in matrix.replace("\N{NO-BREAK SPACE}", " ")


def test_a_market_that_lacks_nothing_has_no_repair(harness):
    harness.run("2025-06-28|BTC", "2025-06-30|BTC", of="crypto")
    found = told(harness, of="crypto")
    assert (found["complete_percent"], found["missing_sessions"]) == (100.0, 0)
    assert "repair" not in found


def test_a_hundred_percent_is_said_of_nothing_that_lacks_a_session(harness, monkeypatch):
    monkeypatch.setattr(Completeness, "counts", property(lambda _: Counts(complete=200_000, missing=1)))
    assert told(harness)["complete_percent"] == 99.999


def test_measuring_asks_the_vendor_for_nothing_and_needs_no_key(harness, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    found = told(harness)
    assert (found["complete_percent"], found["missing_sessions"]) == (0.0, 20)
    assert harness.vendor.requests == []


def test_every_market_has_one_without_partitions_made_from_what_the_vendor_is_asked_for():
    graph = definitions(UNIVERSE).resolve_asset_graph()
    for kept in UNIVERSE.markets:
        node = graph.get(completeness_key(kept))
        assert node.partitions_def is None
        assert {key.to_user_string() for key in node.parent_keys} == {f"{kept.name}/ohlcv_{t}" for t in ("1m", "1d")}


@pytest.mark.parametrize("of", ["stocks", "crypto"])
def test_every_hour_each_market_is_measured_whether_anything_ran_or_not(of, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    schedule = definitions(SMALL).resolve_schedule_def(f"{of}_completeness_hourly")
    assert (schedule.job_name, schedule.cron_schedule) == (f"{of}_completeness_job", "35 * * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    for hours in range(3):
        with dg.build_schedule_context(scheduled_execution_time=MOMENT + timedelta(hours=hours)) as context:
            (request,) = schedule.evaluate_tick(context).run_requests
        assert request.tags["backfill/trigger"] == "hourly schedule"


def test_a_market_of_many_partitions_is_measured(harness):
    """Two years, never asked for."""
    harness.universe = universe(market("stocks", "AAPL", "MSFT"))
    harness.defs = harness.definitions(MOMENT)
    sessions = [d for d in trading_calendar().sessions if date(2024, 1, 2) <= d < MOMENT.date()]
    assert told(harness)["missing_sessions"] == 2 * len(sessions)
