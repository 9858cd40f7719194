"""The platform as a user has it: real webserver, real daemon, a backfill launched in the asset page's way."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from backfill_assets.simulator import Hole, Scenario, Simulator
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, Platform, environment, platform, until

UNIVERSE = """
markets:
  stocks: {start: 2026-09-01, symbols: [AAPL, SPY, MSFT]}
"""
# So long the sensor that repairs gaps waits, and what is missing is left to the test.
PAUSE = {"BACKFILL_RETRY_FIRST_PAUSE": "86400"}
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
ONE_BACKFILL = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs(limit: 10) { status tags { key value } } }
  }
}"""
ALL_BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id } } } }"
MATERIALIZATIONS = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      assetMaterializations(limit: 1000) { partition metadataEntries { label ... on IntMetadataEntry { intValue } } }
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
    """Everything is there but DAYS of two symbols, which the vendor did not have when they were asked for."""
    first, last = date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[-1])
    late = Scenario(holes=tuple(Hole(ticker=ticker, first=first, last=last) for ticker in ("AAPL", "SPY")))
    data = tmp_path / "data folder"
    with Simulator(late) as simulator:
        variables = environment(simulator, data, database_url, UNIVERSE, **PAUSE)
        filled = subprocess.run(
            [BACKFILL, "run"], cwd=PROJECT, env=variables, capture_output=True, text=True, check=False
        )
        assert filled.returncode == 3, filled.stderr
        simulator.scenario = Scenario(holes=(Hole(ticker="SPY", first=HOLE, last=HOLE),))
        with platform(simulator, data, database_url, UNIVERSE, **PAUSE) as started:
            yield started


def _finished(running: Platform, backfill: str):
    def ended():
        found = running.ask(ONE_BACKFILL, id=backfill)["partitionBackfillOrError"]
        runs_ended = all(run["status"] in {"SUCCESS", "FAILURE"} for run in found["runs"])
        return found if len(found["runs"]) == 2 and runs_ended else None

    return until(ended)


def test_a_backfill_launched_in_dagit_marks_exactly_what_was_answered(running: Platform) -> None:
    before = len(running.simulator.requests)
    answer = running.ask(
        LAUNCH,
        parameters={
            "assetSelection": [{"path": ["stocks", "ohlcv", t]} for t in ("1m", "1d")],
            "partitionNames": [f"{day}|{symbol}" for symbol in ("AAPL", "SPY") for day in DAYS],
            "fromFailure": False,
            # Whoever launches it knows that the vendor has them by now.
            "runConfigData": {"ops": {"stocks_ohlcv": {"config": {"retry": "NOW"}}}},
        },
    )["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer

    found = _finished(running, answer["backfillId"])

    assert [run["status"] for run in found["runs"]] == ["SUCCESS", "SUCCESS"], found
    asked_for = {f"{day}|{symbol}" for day in DAYS for symbol in ("AAPL", "SPY")}
    answered = {f"{day}|AAPL" for day in DAYS} | {f"{day}|SPY" for day in DAYS if day != str(HOLE)}
    for timeframe, most in (("1m", 960), ("1d", 1)):
        node = running.ask(MATERIALIZATIONS, path=["stocks", "ohlcv", timeframe])["assetNodeOrError"]
        bars = {
            event["partition"]: entry["intValue"]
            for event in node["assetMaterializations"]
            for entry in event["metadataEntries"]
            if entry["label"] == "bars" and event["partition"] in asked_for
        }
        assert set(bars) == answered
        assert all(1 <= count <= most for count in bars.values())
        shown = {
            f"{day}|{symbol}"
            for span in node["assetPartitionStatuses"]["ranges"]
            for day in DAYS
            if span["primaryDimStartKey"] <= day <= span["primaryDimEndKey"]
            for symbol in span["secondaryDim"]["materializedPartitions"]
            if symbol != "MSFT"
        }
        assert shown == answered
    asked = [request for request in running.simulator.requests[before:] if "/range/" in request.path]
    assert len(asked) == 4, "one request a symbol and timeframe"
    assert len(running.ask(ALL_BACKFILLS)["partitionBackfillsOrError"]["results"]) == 1, "the sensor launches none"
    assert not any(request.url_key for request in asked)
