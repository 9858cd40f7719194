import asyncio
import re
import signal
import subprocess
import sys
from datetime import UTC, date, datetime

import httpx
import msgspec
import pytest

from backfill_assets.simulator import Dividend, Fault, Hole, RateLimit, Restatement, Scenario, Simulator, Split
from backfill_assets.simulator.scenario import read, write

EVERYTHING = Scenario(
    known=("AAPL", "SMOL"),
    api_keys=("k",),
    rate_limit=RateLimit(requests=5, retry_after=1.5),
    history_edge=date(2022, 1, 3),
    today_forbidden=True,
    forbidden=("crypto",),
    delayed=True,
    faults=(Fault(kind="cut_body", ticker="AAPL", every=3, times=2),),
    holes=(
        Hole(ticker="AAPL", first=date(2024, 3, 4), last=date(2024, 3, 5), heal_at=datetime(2024, 4, 1, tzinfo=UTC)),
    ),
    restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 6), factor=0.99),),
    listed={"SMOL": date(2023, 1, 3)},
    delisted={"SMOL": date(2024, 1, 3)},
    splits=(Split(ticker="AAPL", execution_date=date(2020, 8, 31), split_to=4),),
    dividends=(Dividend(ticker="AAPL", ex_dividend_date=date(2024, 5, 10), cash_amount=0.25),),
    corporate_actions_v1=False,
    next_url_base="https://api.example",
)


def test_scenarios_round_trip_through_json():
    assert read(write(EVERYTHING)) == EVERYTHING
    assert read("{}") == Scenario()
    assert write(Scenario()) == b"{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"holez": []}', "holez"),
        ('{"faults": [{"kind": "explode"}]}', r"explode.*faults"),
        ('{"holes": [{"ticker": "AAPL"}]}', r"first.*holes"),
        ('{"splits": [{"ticker": "AAPL", "execution_date": "yesterday", "split_to": 2}]}', r"date.*splits"),
    ],
)
def test_an_invalid_scenario_names_the_field(text, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        read(text)


def test_the_scenario_can_be_put_and_reset_over_http(vendor, client):
    put = client.put("/_simulator/scenario", content=b'{"delayed": true, "known": ["AAPL"]}')
    assert put.status_code == 200
    assert vendor.scenario == Scenario(delayed=True, known=("AAPL",))
    assert read(httpx.get(vendor.url + "/_simulator/scenario").content) == vendor.scenario
    assert client.get("/v3/reference/tickers").json()["count"] == 1
    assert httpx.post(vendor.url + "/_simulator/reset").status_code == 200
    assert vendor.scenario == Scenario()
    assert vendor.requests == []


@pytest.mark.parametrize("body", [b"{", b'{"nothing": 1}', b"[]"])
def test_an_invalid_scenario_over_http_is_400_and_changes_nothing(vendor, client, body):
    response = client.put("/_simulator/scenario", content=body)
    assert response.status_code == 400
    assert "Invalid scenario" in response.json()["error"]
    assert vendor.scenario == Scenario()


def test_next_url_can_name_another_host(vendor, bars):
    vendor.change(next_url_base="https://api.example")
    page = bars("AAPL", "1/day", "2024-03-04", "2024-03-08", limit=2)
    assert page["next_url"].startswith("https://api.example/v2/aggs/ticker/AAPL/range/1/day/")


def test_a_closed_simulator_frees_its_port(vendor):
    with Simulator() as other:
        url, port = other.url, int(other.url.rsplit(":", 1)[1])
        assert url != vendor.url
        assert httpx.get(url + "/_simulator/requests").json() == []
    other.close()
    with pytest.raises(RuntimeError, match="not running"):
        str(other.url)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/_simulator/requests")
    with Simulator(port=port) as again:
        assert again.url == url
        second = Simulator(port=port)
        with pytest.raises(OSError, match="in use"):
            second.start()


def test_many_concurrent_clients(vendor):
    async def ask():
        async with httpx.AsyncClient(base_url=vendor.url, headers={"Authorization": "Bearer k"}) as client:
            paths = [f"/v2/aggs/ticker/{t}/range/1/minute/2024-03-04/2024-03-08" for t in vendor.scenario.known[:20]]
            return await asyncio.gather(*(client.get(p) for p in paths))

    assert {response.json()["resultsCount"] > 4000 for response in asyncio.run(ask())} == {True, False}


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_running_in_the_foreground(tmp_path, stop):
    (tmp_path / "scenario.json").write_bytes(write(Scenario(delayed=True)))
    command = [sys.executable, "-m", "backfill_assets.simulator", "--api-key", "k", "--scenario", "scenario.json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        path = f"{url}/v2/aggs/ticker/X:BTCUSD/range/1/day/2024-03-04/2024-03-04"
        assert httpx.get(path, headers={"Authorization": "Bearer other"}).status_code == 401
        assert httpx.get(path, headers={"Authorization": "Bearer k"}).json()["status"] == "DELAYED"
        assert [r["status"] for r in httpx.get(f"{url}/_simulator/requests").json()] == [401, 200]
        process.send_signal(stop)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_an_invalid_scenario_file_exits_with_2(tmp_path):
    (tmp_path / "bad.json").write_text('{"holez": []}')
    command = [sys.executable, "-m", "backfill_assets.simulator", "--scenario", "bad.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert "holez" in done.stderr
