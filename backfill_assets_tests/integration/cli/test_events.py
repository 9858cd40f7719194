"""`backfill events`: exit codes, output, and the run."""

import json
from datetime import date

import dagster as dg
import pytest

from backfill_assets.deployment.runs import TRIGGER_TAG
from backfill_assets.simulator import Dividend, Fault, Split

SPLITS = (
    Split(ticker="AAPL", execution_date=date(2024, 8, 5), split_to=4),
    Split(ticker="GE", execution_date=date(2025, 6, 20), split_from=8, split_to=1),
    Split(ticker="MSFT", execution_date=date(2025, 8, 25), split_from=2, split_to=3),
)
DIVIDENDS = (
    Dividend(ticker="MSFT", ex_dividend_date=date(2024, 5, 15), cash_amount=0.75, pay_date=date(2024, 6, 13)),
    Dividend(ticker="KO", ex_dividend_date=date(2025, 6, 20), cash_amount=0.5),
)


@pytest.fixture
def with_actions(backfill):
    backfill.vendor.change(splits=SPLITS, dividends=DIVIDENDS)
    return backfill


def table(result):
    return [line.split() for line in result.out.splitlines()]


HEADING = ["symbol", "kind", "ex-date", "ratio", "or", "amount", "withdrawn"]


def test_splits_and_dividends_are_fetched_and_listed(with_actions):
    result = with_actions("events")
    assert (result.code, result.err) == (0, "")
    assert table(result) == [
        HEADING,
        ["AAPL", "split", "2024-08-05", "4", "for", "1"],
        ["MSFT", "dividend", "2024-05-15", "0.75", "USD"],
        ["MSFT", "split", "2025-08-25", "3", "for", "2"],
    ]
    assert len(with_actions.vendor.requests) == 2
    with with_actions.instance() as instance:
        (run,) = instance.get_runs()
        assert (run.job_name, run.status) == ("stocks_events_job", dg.DagsterRunStatus.SUCCESS)
        assert run.tags[TRIGGER_TAG] == "command line"
        assert run.remote_job_origin.location_name == "backfill_assets"
        key = dg.AssetKey(["stocks", "corporate_events"])
        assert instance.get_latest_materialization_event(key).run_id == run.run_id


def test_withdrawn_actions_are_marked(with_actions):
    to_come, of_others = (
        Split(ticker=ticker, execution_date=date(2999, 1, 4), split_to=10) for ticker in ("MSFT", "GE")
    )
    with_actions.vendor.change(splits=(to_come, of_others), dividends=DIVIDENDS)
    with_actions("events")
    with_actions.vendor.change(splits=(of_others,), dividends=DIVIDENDS)
    result = with_actions("events", "--symbols", "MSFT")
    ((*_, day, clock, zone),) = [line for line in table(result) if line[:2] == ["MSFT", "split"]]
    assert (result.code, zone) == (0, "UTC")
    assert [f"{day} {clock}"] == [
        row[0]
        for row in with_actions.rows(
            "select to_char(withdrawn_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') from corporate_events"
            " where symbol = 'MSFT' and kind = 'split'"
        )
    ]
    assert {line[0] for line in table(result)[1:]} == {"MSFT"}


def test_json_is_alone_on_standard_output(with_actions):
    result = with_actions("events", "--symbols", "AAPL,BTC", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    (run,), (event,) = found["runs"], found["events"]
    assert (found["exit_code"], run["market"], run["succeeded"], run["error"]) == (0, "stocks", True, None)
    assert {name: event[name] for name in ("symbol", "kind", "ex_date", "ratio_from", "ratio_to", "cash_amount")} == {
        "symbol": "AAPL",
        "kind": "split",
        "ex_date": "2024-08-05",
        "ratio_from": 1.0,
        "ratio_to": 4.0,
        "cash_amount": None,
    }
    assert event["withdrawn_at"] is None
    assert event["first_seen"] == event["changed_at"]
    assert event["first_seen"].endswith("+00:00")


def test_a_message_if_none_are_known(with_actions):
    with_actions.vendor.change(splits=SPLITS[1:2], dividends=DIVIDENDS[1:])
    assert with_actions("events").out == "No splits or dividends are known.\n"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_refused_key_is_one_sentence_and_exit_code_1(with_actions, form):
    with_actions.vendor.change(api_keys=("another",))
    result = with_actions("events", *form)
    assert result.code == 1
    assert result.error.startswith("stocks: Polygon refuses the API key")
    if form:
        assert json.loads(result.out)["exit_code"] == 1
    else:
        assert result.out == ""
    assert with_actions.rows("select count(*) from corporate_events") == [(0,)]


def test_a_plan_without_them_is_one_sentence_and_exit_code_1(with_actions):
    with_actions.vendor.change(faults=(Fault(kind="status", status=403, path="/splits"),))
    result = with_actions("events")
    assert result.code == 1
    assert result.error.startswith("stocks: The Polygon plan of this key does not include")


def test_without_a_key_nothing_is_started(with_actions, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    result = with_actions("events")
    assert result.code == 1
    assert result.error.startswith("POLYGON_API_KEY is not set")
    assert with_actions.vendor.requests == []
