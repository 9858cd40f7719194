"""The platform as a user has it: real webserver, real daemon, a backfill launched in the asset page's way."""

from datetime import date
from pathlib import Path

import pytest

from backfill_assets.simulator import Hole, Scenario, Simulator
from backfill_assets_tests.e2e.platform import Platform, platform, until

UNIVERSE = """
markets:
  stocks: {start: 2026-08-03, symbols: [AAPL, SPY, MSFT]}
"""
DAYS = ["2026-09-03", "2026-09-04", "2026-09-08", "2026-09-09"]  # around Labor Day
HOLE = date(2026, 9, 4)

LAUNCH = """
mutation ($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs(limit: 10) { status tags { key value } } }
  }
}"""
MATERIALIZATIONS = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      assetMaterializations(limit: 100) { partition metadataEntries { label ... on IntMetadataEntry { intValue } } }
      assetPartitionStatuses {
        ... on MultiPartitionStatuses {
          ranges {
            primaryDimStartKey
            primaryDimEndKey
            secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions } }
          }
        }
      }
    }
  }
}"""


@pytest.fixture
def running(tmp_path: Path, database_url: str):
    scenario = Scenario(holes=(Hole(ticker="SPY", first=HOLE, last=HOLE),))
    with (
        Simulator(scenario) as simulator,
        platform(simulator, tmp_path / "data folder", database_url, UNIVERSE) as started,
    ):
        yield started


def _finished(running: Platform, backfill: str):
    def ended():
        found = running.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
        runs_ended = all(run["status"] in {"SUCCESS", "FAILURE"} for run in found["runs"])
        return found if len(found["runs"]) == 2 and runs_ended else None

    return until(ended)


def test_a_backfill_launched_in_dagit_marks_exactly_what_was_answered(running: Platform) -> None:
    answer = running.ask(
        LAUNCH,
        parameters={
            "assetSelection": [{"path": ["stocks", "ohlcv", t]} for t in ("1m", "1d")],
            "partitionNames": [f"{day}|{symbol}" for symbol in ("AAPL", "SPY") for day in DAYS],
            "fromFailure": False,
        },
    )["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer

    found = _finished(running, answer["backfillId"])

    assert [run["status"] for run in found["runs"]] == ["SUCCESS", "SUCCESS"], found
    answered = {f"{day}|AAPL" for day in DAYS} | {f"{day}|SPY" for day in DAYS if day != str(HOLE)}
    for timeframe, most in (("1m", 960), ("1d", 1)):
        node = running.ask(MATERIALIZATIONS, path=["stocks", "ohlcv", timeframe])["assetNodeOrError"]
        bars = {
            event["partition"]: entry["intValue"]
            for event in node["assetMaterializations"]
            for entry in event["metadataEntries"]
            if entry["label"] == "bars"
        }
        assert set(bars) == answered
        assert all(1 <= count <= most for count in bars.values())
        shown = {
            f"{day}|{symbol}"
            for span in node["assetPartitionStatuses"]["ranges"]
            for day in DAYS
            if span["primaryDimStartKey"] <= day <= span["primaryDimEndKey"]
            for symbol in span["secondaryDim"]["materializedPartitions"]
        }
        assert shown == answered
    asked = [request for request in running.simulator.requests if "/range/" in request.path]
    assert len(asked) == 4, "one request a symbol and timeframe"
    assert not any(request.url_key for request in asked)
