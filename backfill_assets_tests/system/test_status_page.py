"""The status page in a browser: live without a reload, without JavaScript, on a phone, and from a hostile page."""

import http.server
import threading

import httpx
import psycopg
from playwright.sync_api import expect

from backfill_assets.domain.api_tokens import ApiToken, Scope
from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Simulator
from backfill_assets_tests.integration.web.conftest import (
    backfill,
    client,
    closed_markets,
    environment,
    serving,
    vendor,
    vendor_server,
)
from backfill_assets_tests.integration.web.test_health import beat
from backfill_assets_tests.system.browser import browser_page
from backfill_assets_tests.system.platform import platform, wait_until
from backfill_assets_tests.system.test_repair import sessions

__all__ = ["backfill", "client", "closed_markets", "environment", "vendor", "vendor_server"]

LAUNCHES = """async (url) => {
  window.statuses = [];
  const body = JSON.stringify({timeframes: ["1d"], start: "2024-03-04"});
  for (const [mode, headers] of [
    ["no-cors", {"Content-Type": "text/plain"}], ["cors", {"Content-Type": "text/plain"}],
    ["cors", {"Content-Type": "application/json"}], ["cors", {"Authorization": "Bearer x"}],
  ]) {
    try {
      const reply = await fetch(url, {method: "POST", mode, headers, body, credentials: "include"});
      window.statuses.push(reply.type === "opaque" ? "opaque or blocked" : `${reply.status}`);
    } catch { window.statuses.push("opaque or blocked"); }
  }
  const form = Object.assign(document.createElement("form"), {method: "POST", action: url, enctype: "text/plain"});
  form.target = "hidden";
  const frame = Object.assign(document.createElement("iframe"), {name: "hidden"});
  document.body.append(frame, form);
  form.submit();
  await new Promise((done) => { frame.onload = done; setTimeout(done, 3000); });
}"""
READS = """async (address) => {
  const found = [];
  for (const options of [{}, {mode: "no-cors"}, {credentials: "include"}]) {
    try { found.push(await (await fetch(address + "/api/v1/status", options)).text()); } catch (error) { found.push(""); }
  }
  return found.join("");
}"""


def test_the_page_follows_what_happens_without_a_reload_and_fits_a_phone(closed_markets):
    beat(closed_markets, 0)
    with serving() as served, browser_page() as page:
        errors = []
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{served.base_url}/")
        expect(page.get_by_role("status")).to_contain_text("Nothing is stored yet.")
        page.evaluate("window.stays = true")
        with psycopg.connect(closed_markets.database_url) as connection:
            connection.execute(
                "insert into alerts (incident, severity, sentence, details, place, reminds, opened_at)"
                " values ('run:x', 'critical', 'The run failed.', '[]', '{}', false, now())"
            )
        expect(page.get_by_role("status")).to_contain_text("The run failed.")
        assert page.evaluate("window.stays")
        page.set_viewport_size({"width": 390, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("link", name="BTC").click()
        expect(page.get_by_role("heading", name="BTC")).to_be_visible()
        assert errors == []
        bare = page.context.browser.new_context(java_script_enabled=False).new_page()
        bare.goto(f"{served.base_url}/")
        expect(bare.get_by_role("status")).to_contain_text("The run failed.")
        expect(bare.get_by_role("img").first).to_be_visible()


def test_a_backfill_that_the_api_launches_is_executed_and_followed(dagster_database_url, tmp_path):
    days = sessions(Kind.STOCKS, 4)
    universe = f"markets: {{stocks: {{start: {days[0]}, symbols: [AAPL, SPY]}}}}"
    text, token = ApiToken.new("script", Scope.LAUNCH)
    headers = {"authorization": f"Bearer {text}", "idempotency-key": "one"}
    with (
        Simulator() as simulator,
        platform(
            simulator, tmp_path / "data", dagster_database_url, universe, BACKFILL_API_TOKENS=str(token)
        ) as running,
        httpx.Client(base_url=f"{running.status_url}/api/v1/", headers=headers, timeout=60) as client,
    ):
        launched = client.post("backfills", json={"timeframes": ["1m", "1h", "1d"], "start": days[1]})
        assert launched.status_code == 202, launched.text

        def ended():
            state = client.get(f"backfills/{launched.json()['id']}").json()
            return state if state["ended_at"] else None

        state = wait_until(ended)
        assert (state["status"], state["percent"], state["failed"]) == ("completed_success", 100, 0)
        assert state["day_reached"] == f"{days[-1]}"
        gaps = client.get("gaps").json()
        assert {gap["start"] for gap in gaps} <= {days[0]}
        on = {found["name"]: found["on"] for found in client.get("schedules").json()}
        assert on["stocks_ohlcv_nightly"]
        assert client.post("schedules/stocks_ohlcv_nightly", json={"on": False}).json()["on"] is False
        page = httpx.get(f"{running.status_url}/").text
        assert launched.json()["id"] in str(
            running.graphql("{ partitionBackfillsOrError { ... on PartitionBackfills { results { id } } } }")
        )
        assert "API, token script" in page or "gap repair" in page
    logs = "".join(path.read_text() for path in (tmp_path / "data" / "logs").iterdir())
    assert text not in logs + page
    assert "Traceback" not in (tmp_path / "data" / "logs" / "status-page.log").read_text()


def test_a_hostile_page_reads_and_launches_nothing_and_cannot_rebind(client, closed_markets):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server, browser_page() as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://evil.example:{server.server_port}/")
        assert page.evaluate(READS, str(client.base_url)) == ""
        page.evaluate(LAUNCHES, f"{client.base_url}/api/v1/backfills".replace("//api", "/api"))
        assert page.evaluate("window.statuses") == ["opaque or blocked"] * 4
        # A name that leads to this machine after the page was loaded.
        page.goto(f"http://evil.example:{client.base_url.port}/")
        assert "Unknown host name" in page.content()
        assert "share_complete" not in page.evaluate(READS, f"http://evil.example:{client.base_url.port}")
        server.shutdown()
    with closed_markets.instance() as instance:
        assert instance.get_backfills() == []
