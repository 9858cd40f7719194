"""Nothing that the platform writes contains the API key or secrets of alert addresses, even after failed requests."""

from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backfill_assets.adapters.polygon import Polygon
from backfill_assets.domain.errors import BadRequest
from backfill_assets.domain.timeframes import DAY_1
from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
    ok,
)
from backfill_assets_tests.secrets_search import find_secrets, secrets_in_urls
from backfill_assets_tests.system.sandbox import RANGE, sandbox

KEY = "k3y&of/n0body%at+all_0123456789"
ADDRESS = "json://somebody:w0rd-of-n0body@127.0.0.1:1/t0ken-of-n0body"
FAULTS = Scenario(
    forbidden=("X:BTCUSD",),
    faults=(
        Fault(kind="reset", ticker="AAPL", nth=1),
        Fault(kind="status", status=302, ticker="SPY"),
    ),
)
KEY_REFUSED = Scenario(api_keys=("another-key",))


def test_no_secret_is_written(tmp_path: Path, database_url: str) -> None:
    with Simulator() as simulator:
        broken = sandbox(
            simulator,
            tmp_path,
            database_url,
            POLYGON_API_KEY=KEY,
            ALERT_URLS=ADDRESS,
            DAGSTER_UI_URL="http://127.0.0.1:1",
        )
        page, report = tmp_path / "page.html", tmp_path / "report.json"
        output = {}
        for name, scenario, code, *command in (
            ("failing", FAULTS, 1, "run", "--max-concurrent", "1", *RANGE),
            ("refused", KEY_REFUSED, 1, "run", "--json", *RANGE),
            ("status", KEY_REFUSED, 3, "status", "--html", str(page)),
            ("report", KEY_REFUSED, 0, "report", "--output", str(report)),
            ("alerts", KEY_REFUSED, 1, "alerts", "test"),
        ):
            simulator.scenario = scenario
            done = broken.backfill(*command)
            assert done.returncode == code, (name, done.stdout, done.stderr)
            output |= {f"{name}, stdout": done.stdout, f"{name}, stderr": done.stderr}
        statuses = {request.status for request in simulator.requests}
        assert statuses >= {0, 302, 401, 403}, statuses
        assert not any(request.url_key for request in simulator.requests)
    assert page.is_file()
    assert report.is_file()
    secrets = {"the key": KEY} | secrets_in_urls(ADDRESS)
    secrets |= {"the database's password": urlsplit(database_url).password or KEY}
    assert find_secrets(secrets, database_url=database_url, folders=[tmp_path], texts=output) == []
    # the search finds what these commands wrote
    places = find_secrets({"a ticker": "BTCUSD"}, database_url=database_url, folders=[tmp_path], texts=output)
    assert any(place.startswith("table dagster.") for place in places), places


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_is_not_sent_to_a_redirect(status: int) -> None:
    async with ScriptedVendor(ok()) as elsewhere:
        answer = Response(status=status, headers={"Location": f"{elsewhere.url}/v2/aggs"})
        async with ScriptedVendor(answer) as vendor:
            client = Polygon(KEY, base_url=vendor.url, limiter=CountingLimiter(), sleep=NoSleep())
            async with client:
                with pytest.raises(BadRequest) as caught:
                    _ = [page async for page in client.pages("AAPL", DAY_1, date(2024, 1, 2), date(2024, 1, 3))]
    assert elsewhere.requests == []
    assert len(vendor.requests) == 1
    assert KEY not in str(caught.value)
