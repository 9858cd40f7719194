"""Dagit as a person sees it: the real webserver and daemon in a browser, asserted on by what can be read there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Scenario, Simulator
from backfill_assets_tests.e2e.browser import browser_page
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, Platform, environment, platform, until
from backfill_assets_tests.e2e.test_repair import both, sessions

DAYS = sessions(Kind.STOCKS, 6)
LACKING = DAYS[2]
UNIVERSE = f"markets: {{stocks: {{start: {DAYS[0]}, symbols: [AAPL, SPY]}}}}"
COMPLETENESS = """
{
  assetNodeOrError(assetKey: {path: ["stocks", "completeness"]}) {
    ... on AssetNode { assetMaterializations(limit: 1) { runId } }
  }
}"""
PATIENT = {"BACKFILL_RETRY_FIRST_PAUSE": "86400"}  # the hole is to be seen, not to be filled


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as opened:
        yield opened


def test_dagit_shows_what_is_stored_checked_and_automated(page: Page, tmp_path: Path, database_url: str) -> None:
    holes = both("SPY", LACKING, LACKING)
    with Simulator(Scenario(holes=holes)) as simulator:
        data = tmp_path / "data"
        variables = environment(simulator, data, database_url, UNIVERSE, **PATIENT)
        subprocess.run([BACKFILL, "run"], cwd=PROJECT, env=variables, capture_output=True, check=False)
        report = tmp_path / "status.html"
        subprocess.run([BACKFILL, "status", "--html", report], cwd=PROJECT, env=variables, check=False)
        with platform(simulator, data, database_url, UNIVERSE, **PATIENT) as up:
            _the_catalog(page, up.url)
            _an_asset(page, up.url)
            _its_partitions(page, up.url)
            _its_checks(page, up.url)
            _the_automation(page, up.url)
            until(lambda: _completeness(up))
            _the_completeness_picture(page, up.url)
        _the_page_of_the_command(page, report)


def _shows(page: Page, *texts: str) -> None:
    for text in texts:
        expect(page.locator("body")).to_contain_text(text)


def _the_catalog(page: Page, url: str) -> None:
    page.goto(f"{url}/assets")
    _shows(page, "stocks / ohlcv / 1m", "stocks / features / 1d", "stocks / completeness", "stocks / corporate_events")


def _an_asset(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/ohlcv/1d")
    _shows(page, "Description", "market_data", "Columns", "timestamptz", "Latest check results", "At 02:00 AM UTC")


def _its_partitions(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/ohlcv/1d?view=partitions")
    _shows(page, "AAPL", "SPY", DAYS[0])


def _its_checks(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/ohlcv/1d?view=checks&checkDetail=no_missing_sessions")
    _shows(page, "bars_are_valid", "latest_session_is_here", "Evaluation result", LACKING)


def _the_automation(page: Page, url: str) -> None:
    page.goto(f"{url}/automation")
    _shows(page, "gap_repair", "stale_features", "check_alerts", "stocks_ohlcv_nightly", "At 02:00 AM UTC")
    expect(page.locator("input[type=checkbox]:checked").first).to_be_attached()


def _completeness(up: Platform) -> list[dict] | None:
    """Its first materialization, which the sensor asks for after the first run."""
    return up.ask(COMPLETENESS)["assetNodeOrError"]["assetMaterializations"] or None


def _the_completeness_picture(page: Page, url: str) -> None:
    page.goto(f"{url}/assets/stocks/completeness")
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.locator("img[src^='data:image']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    _shows(page, "AAPL", "SPY")


def _the_page_of_the_command(page: Page, report: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    _shows(page, "SPY", LACKING)
    assert [one for one in asked if not one.startswith("data:")] == [report.as_uri()]
