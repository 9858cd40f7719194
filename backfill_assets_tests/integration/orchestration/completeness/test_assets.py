"""The completeness assets, run by Dagster."""

import re
from datetime import date

import dagster as dg
import pytest

from backfill_assets.domain.completeness import Completeness, Counts
from backfill_assets.simulator import Hole
from backfill_assets_tests.support import market, universe

FIRST = date(2025, 6, 16)
SMALL = universe(market("stocks", "AAPL", "MSFT", start=FIRST), market("crypto", "BTC", start=date(2025, 6, 28)))


@pytest.fixture
def small_universe():
    return SMALL


def measured(harness, of="stocks"):
    """Measure, and return the metadata as plain values."""
    result = harness.materialize(of, "completeness")
    assert result.success
    (event,) = result.asset_materializations_for_node(f"{of}__completeness")
    assert all(not isinstance(v, dg.TextMetadataValue) or len(v.value) < 100 for v in event.metadata.values())
    return {name: entry.value for name, entry in event.metadata.items()}


def test_the_metadata_counts_sessions_and_shows_them_in_a_matrix(harness):
    hole = date(2025, 6, 18)
    harness.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole),))
    harness.run("2025-06-16|AAPL", "2025-06-30|MSFT")
    found = measured(harness)
    matrix = found.pop("matrix")
    assert found == {
        "complete_percent": 95.0,
        "missing_sessions": 1,
        "partial_sessions": 0,
        "explained_sessions": 0,
        "fallback_sessions": 0,
        "repair": "backfill repair --symbols AAPL",
    }
    assert matrix.startswith("2025-06-16 to 2025-06-30: 95.0% complete; 1 missing of 20 sessions.\n")
    assert re.search(r"\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)\n", matrix)
    last = harness.rows("select max(timestamp) from market_data where symbol = 'AAPL'")[0][0]
    row = f"| AAPL | ✗ 90.0% | ✗ 90.0% | 1 | 0 | {last:%Y-%m-%d %H:%M} |"
    assert row in matrix.replace("\N{NO-BREAK SPACE}", " ")


def test_the_share_is_rounded_down_so_that_100_means_complete(harness, monkeypatch):
    monkeypatch.setattr(Completeness, "counts", property(lambda _: Counts(complete=200_000, missing=1)))
    assert measured(harness)["complete_percent"] == 99.999


def test_measuring_sends_no_requests_and_needs_no_key(harness, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    found = measured(harness)
    assert (found["complete_percent"], found["missing_sessions"]) == (0.0, 20)
    assert harness.vendor.requests == []
