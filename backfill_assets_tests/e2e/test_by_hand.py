"""A backfill launched by hand in Dagit, and the page of backfills after a repair: in a browser, as a person does it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Scenario, Simulator
from backfill_assets_tests.e2e.browser import browser_page
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, Platform, environment, platform, until
from backfill_assets_tests.e2e.test_repair import BACKFILLS, RETRIES, both, sessions

DAYS = sessions(Kind.STOCKS, 5)
HEALED, BY_HAND = DAYS[2], DAYS[3]
UNIVERSE = f"markets: {{stocks: {{start: {DAYS[0]}, symbols: [AAPL, SPY]}}}}"


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as opened:
        opened.set_viewport_size({"width": 1440, "height": 1100})
        yield opened


def test_a_repair_and_a_backfill_by_hand_stand_on_the_page_of_backfills(
    page: Page, tmp_path: Path, database_url: str
) -> None:
    with Simulator(Scenario(holes=both("SPY", HEALED, HEALED, requests=1))) as simulator:
        variables = environment(simulator, tmp_path, database_url, UNIVERSE, **RETRIES)
        subprocess.run([BACKFILL, "run"], cwd=PROJECT, env=variables, capture_output=True, check=False)
        with platform(simulator, tmp_path, database_url, UNIVERSE, **RETRIES) as up:
            repair = until(lambda: ended(up, by_hand=False))
            launch_by_hand(page, up.url)
            launched = until(lambda: ended(up, by_hand=True))
            the_page_of_backfills(page, up.url, repair["id"], launched["id"])
    assert launched["isAssetBackfill"]
    assert launched["assetSelection"] == [{"path": ["stocks", "ohlcv", "1d"]}]
    assert {run["status"] for run in launched["runs"]} == {"SUCCESS"}


def ended(up: Platform, *, by_hand: bool) -> dict | None:
    """The backfill that a person launched, or the sensor, once its runs have ended."""
    found = up.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
    for backfill in found:
        repair = any(tag["key"] == "backfill/repair" for tag in backfill["tags"])
        statuses = {run["status"] for run in backfill["runs"]}
        if repair != by_hand and statuses and statuses <= {"SUCCESS", "FAILURE"}:
            return backfill
    return None


def launch_by_hand(page: Page, url: str) -> None:
    """One day of every symbol, from the page of an asset's partitions."""
    page.goto(f"{url}/assets/stocks/ohlcv/1d?view=partitions")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Launch runs to materialize stocks / ohlcv / 1d")
    days = dialog.get_by_placeholder(re.compile("^ex: "))
    days.fill(BY_HAND)
    days.press("Enter")
    dialog.get_by_role("button", name="All", exact=True).last.click()
    expect(dialog).to_contain_text("2 partitions")
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    expect(dialog).to_be_hidden()


def the_page_of_backfills(page: Page, url: str, *ids: str) -> None:
    page.goto(f"{url}/runs")
    page.get_by_role("tab", name="Backfills").click()
    for text in (*ids, "Manually launched", "gap_repair", "Success"):
        expect(page.get_by_text(text).first).to_be_visible()
