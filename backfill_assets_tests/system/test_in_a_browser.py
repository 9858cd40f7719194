"""The Dagster UI in a browser, with a real webserver and daemon: assertions on what a user reads there.

A backfill is launched by hand and a repair by the sensor; both fetch bars and are on the page of backfills.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Scenario, Simulator
from backfill_assets_tests.support import assert_same_bars, stored_bars
from backfill_assets_tests.system.browser import browser_page
from backfill_assets_tests.system.platform import Platform, environment, platform, run_command, wait_until
from backfill_assets_tests.system.test_repair import BACKFILLS, RETRIES, both, sessions, shown

DAYS = sessions(Kind.STOCKS, 5)
SYMBOLS = ("AAPL", "SPY")
HEALED, BY_HAND = DAYS[2], DAYS[3]
UNIVERSE = f"markets: {{stocks: {{start: {DAYS[0]}, symbols: [AAPL, SPY]}}}}"
LATE = (*both("SPY", HEALED, HEALED), *both("AAPL", BY_HAND, BY_HAND))
CONFIG = "ops: {stocks_ohlcv: {config: {retry: EXPLAINED}}}"
"""Requests sessions again that the vendor has confirmed to be empty."""

LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
SET_LIMIT = """fetch("/graphql", {
  method: "POST",
  headers: {"content-type": "application/json"},
  body: JSON.stringify({query: 'mutation { setConcurrencyLimit(concurrencyKey: "own", limit: 1) }'})
}).then((reply) => reply.status)"""

COMPLETENESS = """
{
  assetNodeOrError(assetKey: {path: ["stocks", "completeness"]}) {
    ... on AssetNode { assetMaterializations(limit: 1) { runId } }
  }
}"""


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as opened:
        opened.set_viewport_size({"width": 1440, "height": 1100})
        yield opened


def test_the_ui_shows_assets_checks_and_automation_and_backfills_succeed(
    page: Page, tmp_path: Path, database_url: str
) -> None:
    with Simulator(Scenario(holes=LATE)) as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE, **RETRIES)
        report = tmp_path / "status.html"
        # After the second empty answer, the sensor does not retry AAPL.
        for command in (["run"], ["repair", "--symbols", "AAPL"], ["status", "--html", report]):
            run_command(variables, *command)
        the_page_of_the_command(page, report)
        first, last = date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[-1])
        complete = {symbol: simulator.market.daily_bars(symbol, first, last) for symbol in SYMBOLS}
        assert [len(stored_bars(database_url, s, "1d")) for s in SYMBOLS] == [len(DAYS) - 1] * 2
        simulator.scenario = Scenario()
        with platform(simulator, tmp_path, database_url, UNIVERSE, **RETRIES) as up:
            the_catalog(page, up.url)
            an_asset(page, up.url)
            its_partitions(page, up.url)
            its_checks(page, up.url)
            the_automation(page, up.url)
            hostile_pages(page, up)
            launch_by_hand(page, up.url)
            the_log_of_a_run(page, up)
            launched = wait_until(lambda: ended(up, by_hand=True))
            repair = wait_until(lambda: ended(up, by_hand=False))
            the_page_of_backfills(page, up.url, launched["id"], repair["id"])
            the_page_of_one(page, repair["id"])
            wait_until(lambda: completeness(up))
            the_completeness_picture(page, up.url)
            marked = shown(up, ("stocks", "ohlcv_1d"), DAYS)
    assert launched["isAssetBackfill"]
    assert launched["assetSelection"] == [{"path": ["stocks", "ohlcv_1d"]}]
    assert repair["title"] == "Repair of stocks gaps"
    assert [run["status"] for backfill in (launched, repair) for run in backfill["runs"]] == ["SUCCESS"] * 2
    for symbol in SYMBOLS:
        assert_same_bars(stored_bars(database_url, symbol, "1d"), complete[symbol])
    assert marked == {(day, symbol) for day in DAYS for symbol in SYMBOLS}


def shows(page: Page, *texts: str) -> None:
    """Wait until the page contains the texts."""
    for text in texts:
        expect(page.locator("body")).to_contain_text(text)


def the_catalog(page: Page, url: str) -> None:
    page.goto(f"{url}/assets")
    shows(page, "stocks / ohlcv_1m", "stocks / features_1d", "stocks / completeness", "stocks / corporate_events")


def an_asset(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/ohlcv_1d")
    shows(page, "Description", "market_data", "Columns", "timestamptz", "Latest check results", "At 02:00 AM UTC")


def its_partitions(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/ohlcv_1d?view=partitions")
    shows(page, "AAPL", "SPY", DAYS[0])


def its_checks(page: Page, url: str) -> None:
    """A session that the vendor has confirmed to be empty is still listed."""
    page.goto(f"{url}/assets/stocks/ohlcv_1d?view=checks&checkDetail=no_missing_sessions")
    shows(page, "bars_are_valid", "latest_session_is_here", "Evaluation result", BY_HAND)


def the_automation(page: Page, url: str) -> None:
    page.goto(f"{url}/automation")
    shows(page, "gap_repair", "stale_features", "check_alerts", "stocks_ohlcv_nightly", "At 02:00 AM UTC")
    expect(page.locator("input[type=checkbox]:checked").first).to_be_attached()


def hostile_pages(page: Page, up: Platform) -> None:
    """Pages of this machine, of this host, and of another site change nothing, but may link to the UI."""
    with other_site() as port:
        for host in ("127.0.0.1", "localhost", "hostile.example"):
            page.goto(f"http://{host}:{port}/hostile_page.html?target={up.url}")
            expect(page).to_have_title("got through: nothing")
            page.get_by_text("a link", exact=True).click()
            shows(page, "stocks / ohlcv_1m")
    rebound = page.goto(up.url.replace("127.0.0.1", "rebound.example"))
    assert rebound is not None
    assert rebound.status == 421
    assert up.graphql(LIMITS)["instance"]["concurrencyLimits"] == []
    page.goto(f"{up.url}/assets")
    assert page.evaluate(SET_LIMIT) == 200
    assert up.graphql(LIMITS)["instance"]["concurrencyLimits"] == [{"concurrencyKey": "own"}]


@contextmanager
def other_site() -> Iterator[int]:
    """Serve this folder; yield the port."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=Path(__file__).parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def the_log_of_a_run(page: Page, up: Platform) -> None:
    """The page gets the log through its WebSocket, while the run executes or after."""

    def launched() -> str | None:
        return next((run["runId"] for run in up.runs() if "dagster/backfill" in run["tags"]), None)

    frames: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: frames.append(str(text))))
    page.goto(f"{up.url}/runs/{wait_until(launched)}")
    shows(page, "RUN_SUCCESS")
    assert any("pipelineRunLogs" in frame and "RunSuccessEvent" in frame for frame in frames)


def completeness(up: Platform) -> list[dict] | None:
    """Return the first materialization, which the sensor requests after the first run."""
    return up.graphql(COMPLETENESS)["assetNodeOrError"]["assetMaterializations"] or None


def the_completeness_picture(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/completeness")
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.locator("img[src^='data:image']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    shows(page, *SYMBOLS)


def the_page_of_the_command(page: Page, report: Path) -> None:
    """The page loads nothing but the file."""
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(report.as_uri())
    shows(page, "SPY", HEALED, BY_HAND)
    assert [one for one in loaded if not one.startswith("data:")] == [report.as_uri()]


def ended(up: Platform, *, by_hand: bool) -> dict | None:
    """Return the backfill that was launched by hand or by the sensor, once its runs have ended."""
    found = up.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]
    for backfill in found:
        repair = any(tag["key"] == "backfill/repair" for tag in backfill["tags"])
        statuses = {run["status"] for run in backfill["runs"]}
        if repair != by_hand and statuses and statuses <= {"SUCCESS", "FAILURE"}:
            return backfill
    return None


def launch_by_hand(page: Page, url: str) -> None:
    """Launch one day of all symbols, with a config, from the page of an asset's partitions."""
    page.goto(f"{url}/assets/stocks/ohlcv_1d?view=partitions")
    expect(page.locator("body")).to_contain_text("Missing (")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Launch runs to materialize stocks / ohlcv_1d")
    days = dialog.get_by_placeholder(re.compile("^ex: "))
    days.fill(BY_HAND)
    days.press("Enter")
    dialog.get_by_role("button", name="All", exact=True).last.click()
    expect(dialog).to_contain_text("2 partitions")
    dialog.get_by_text("Config", exact=True).click()
    dialog.get_by_role("button", name="Add config").click()
    editor = page.get_by_role("dialog").filter(has_text="Config Editor")
    expect(editor).to_contain_text("No errors")
    editor.get_by_role("textbox").focus()
    page.keyboard.insert_text(CONFIG)
    expect(editor).to_contain_text(CONFIG)
    expect(editor).to_contain_text("No errors")
    editor.get_by_role("button", name="Save config").click()
    expect(editor).to_be_hidden()
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    expect(dialog).to_be_hidden()


def the_page_of_backfills(page: Page, url: str, *ids: str) -> None:
    """Both backfills are listed with who launched them; the daemon updates their status every half minute."""
    page.goto(f"{url}/runs")
    page.get_by_role("tab", name="Backfills").click()
    for text in (*ids, "Manually launched", "gap_repair", "backfill/repair: stocks"):
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_text(re.compile("^(Started|Success)$"))).to_have_count(2)


def the_page_of_one(page: Page, backfill: str) -> None:
    """The repair has only what was due, and its run succeeded."""
    page.get_by_role("link", name=backfill).click()
    expect(page.locator("body")).to_contain_text(f"{HEALED}|SPY")
    page.get_by_role("tab", name="Runs").click()
    expect(page.get_by_text("Success", exact=True)).to_have_count(1)
