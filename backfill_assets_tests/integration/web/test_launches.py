"""What the API changes: backfills and schedules, with tokens, once for each key, and bodies that are refused."""

import json
from datetime import UTC, datetime

import pytest
from dagster._core.execution.backfill import BulkActionStatus

from backfill_assets.deployment.private_api import ticking
from backfill_assets.domain.api_tokens import ApiToken, Scope
from backfill_assets.web.api import PREFIX
from backfill_assets_tests.integration.orchestration.alerts.alerting import Ticks
from backfill_assets_tests.integration.web.conftest import serving

WANTED = {"symbols": ["MSFT"], "timeframes": ["1d", "1m"], "start": "2024-03-05", "end": "2024-03-07"}


@pytest.fixture
def launcher(closed_markets, monkeypatch):
    """A client with a token that may launch; `reads` and `stranger` are headers with other tokens."""
    tokens = {scope: ApiToken.new(scope.name.lower(), scope) for scope in Scope}
    monkeypatch.setenv("BACKFILL_API_TOKENS", " ".join(str(kept) for _, kept in tokens.values()))
    with serving() as client:
        client.headers["authorization"] = f"Bearer {tokens[Scope.LAUNCH][0]}"
        client.reads = {"authorization": f"Bearer {tokens[Scope.READ][0]}"}
        client.backfill = closed_markets
        yield client


def test_a_backfill_is_launched_once_for_each_key_and_can_be_canceled(launcher):
    backfills = f"{PREFIX}/backfills"
    first = launcher.post(backfills, json=WANTED, headers={"idempotency-key": "a"})
    assert first.status_code == 202, first.text
    again = [launcher.post(backfills, json=WANTED, headers={"idempotency-key": "a"}) for _ in range(3)]
    other = launcher.post(backfills, json=WANTED | {"features": True})
    with serving() as restarted:
        restarted.headers["authorization"] = launcher.headers["authorization"]
        again.append(restarted.post(backfills, json=WANTED, headers={"idempotency-key": "a"}))
    assert {reply.json()["id"] for reply in again} == {first.json()["id"]}
    refused = launcher.post(backfills, json=WANTED | {"symbols": ["AAPL"]}, headers={"idempotency-key": "a"})
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        "This Idempotency-Key was used for another backfill.",
    )
    with launcher.backfill.instance() as instance:
        found = {backfill.backfill_id: backfill for backfill in instance.get_backfills()}
        assert set(found) == {first.json()["id"], other.json()["id"]}
        launched = found[first.json()["id"]]
        assert launched.tags["backfill/trigger"] == "API, token launch"
        assert {key.to_user_string() for key in launched.asset_selection} == {"stocks/ohlcv_1d", "stocks/ohlcv_1m"}
    address = first.headers["location"]
    state = launcher.get(address).json()
    assert (state["partitions"], state["materialized"], state["percent"], state["status"]) == (6, 0, 0, "requested")
    assert state["day_reached"] is None
    assert launcher.get(f"{backfills}/{other.json()['id']}").json()["partitions"] == 12
    for _ in range(2):
        assert launcher.delete(address).json()["status"] == "canceling"
    with launcher.backfill.instance() as instance:
        assert instance.get_backfill(first.json()["id"]).status is BulkActionStatus.CANCELING


def test_a_change_needs_a_token_that_may_launch(launcher):
    for method, path, body in (
        ("post", "/backfills", WANTED),
        ("delete", "/backfills/x", None),
        ("post", "/schedules/x", {"on": False}),
    ):
        for headers, status in (({"authorization": ""}, 401), (launcher.reads, 403)):
            reply = launcher.request(method, PREFIX + path, json=body, headers=headers)
            assert (reply.status_code, reply.json()["status"]) == (status, status)
    with launcher.backfill.instance() as instance:
        assert instance.get_backfills() == []


@pytest.mark.usefixtures("closed_markets")
def test_without_tokens_nothing_can_be_changed_on_this_machine_either():
    with serving() as client:
        assert client.post(f"{PREFIX}/backfills", json=WANTED).status_code == 401
        assert client.post(f"{PREFIX}/plan", json=WANTED).status_code == 200
        for headers in ([("authorization", "Bearer x")], [("authorization", "Basic x"), ("authorization", "bearer x")]):
            assert client.get(f"{PREFIX}/symbols", headers=headers).status_code == 401, "as a proxy lets them through"


def test_a_plan_is_what_the_command_prints(launcher):
    options = "--symbols MSFT --timeframes 1d,1m --start 2024-03-05 --end 2024-03-07"
    printed = json.loads(launcher.backfill("plan", *options.split(), "--json").out)
    assert launcher.post(f"{PREFIX}/plan", json=WANTED).json() == printed


def test_a_schedule_is_switched_off_and_on(launcher):
    with launcher.backfill.instance() as instance:
        Ticks(instance).on("nightly", datetime(2025, 7, 1, 12, tzinfo=UTC), cron="0 2 * * *")
    for on in (False, True):
        reply = launcher.post(f"{PREFIX}/schedules/nightly", json={"on": on})
        assert (reply.status_code, reply.json()) == (200, {"name": "nightly", "on": on})
        with launcher.backfill.instance() as instance:
            assert ticking(instance)["nightly"].switched_off is not on
    (shown,) = launcher.get(f"{PREFIX}/schedules").json()
    assert (shown["on"], shown["cron"], shown["kind"], shown["next_tick"][11:16]) == (
        True,
        "0 2 * * *",
        "schedule",
        "02:00",
    )
    assert launcher.post(f"{PREFIX}/schedules/weekly", json={"on": True}).status_code == 404


def test_a_wrong_body_gets_one_sentence_and_nothing_is_launched(launcher):
    json_type = {"content-type": "application/json"}
    for content, headers, status in (
        (b"{", json_type, 400),
        (b"\xff", json_type, 400),
        (b"[]", json_type, 400),
        (b'{"symbols": "AAPL"}', json_type, 400),
        (b'{"symbol": ["AAPL"]}', json_type, 400),
        (b'{"symbols": ["APL"]}', json_type, 400),
        (b'{"start": "2024-02-30"}', json_type, 400),
        (b'{"markets": ["stocks"], "start": "2024-03-09", "end": "2024-03-10"}', json_type, 400),
        (b"{}", json_type, 400),  # two markets
        (b" " * 70_000, json_type, 413),
        (b"symbols=AAPL", {"content-type": "application/x-www-form-urlencoded"}, 415),
    ):
        reply = launcher.post(f"{PREFIX}/backfills", content=content, headers=headers)
        assert (reply.status_code, reply.json()["status"]) == (status, status), content[:80]
        assert "\n" not in reply.json()["detail"]
    assert launcher.get(f"{PREFIX}/backfills/x%00").status_code == 404
    statuses = [launcher.post(f"{PREFIX}/backfills", json=[]).status_code for _ in range(30)]
    assert set(statuses) == {400, 429}
    with launcher.backfill.instance() as instance:
        assert instance.get_backfills() == []
