"""Alerts from end to end: runs, daemon and channels are real, each channel is notified once, and no secret is written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import httpx
import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.sessions import Kind
from backfill_assets.orchestration.launch import open_instance
from backfill_assets.simulator import Hole, Scenario, Simulator
from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.alerts.alerting import Sensor
from backfill_assets_tests.receivers import mail_server, webhook
from backfill_assets_tests.secrets_search import find_secrets, secrets_in_urls
from backfill_assets_tests.support import read_settings
from backfill_assets_tests.system.platform import Platform, environment, platform, run_command, wait_until
from backfill_assets_tests.system.test_repair import sessions

KEY = "a-key-for-tests"
LOGIN = "hookUserName:h00kPassWord"
GAP = "gap:stocks"
LATER = timedelta(seconds=70)
"""Longer than the first pause after a failed delivery."""

TICKS = """
{
  sensorOrError(sensorSelector: {
    repositoryLocationName: "backfill_assets", repositoryName: "__repository__", sensorName: "check_alerts"
  }) {
    ... on Sensor { sensorState { ticks(limit: 50) { status skipReason cursor error { message stack } } } }
  }
}"""
RUNS = """
{
  runsOrError {
    ... on Runs {
      results {
        runId status runConfigYaml tags { key value } assetSelection { path }
        eventConnection { events { __typename ... on MessageEvent { message eventType } } }
      }
    }
  }
}"""
ASSETS = """
{
  assetNodes {
    assetKey { path } description metadataEntries { label description ... on TextMetadataEntry { text } }
    configField { configType { recursiveConfigTypes { description } } }
    assetMaterializations(limit: 50) { metadataEntries { label description ... on TextMetadataEntry { text } } }
    assetChecksOrError {
      ... on AssetChecks {
        checks {
          name description
          executionForLatestMaterialization {
            evaluation {
              description
              metadataEntries {
                label ... on TextMetadataEntry { text } ... on TableMetadataEntry { table { records } }
              }
            }
          }
        }
      }
    }
  }
}"""


def vendor_without(*days: str) -> Scenario:
    """Return a vendor without bars of AAPL on these days."""
    dates = [date.fromisoformat(day) for day in days]
    return Scenario(api_keys=(KEY,), holes=tuple(Hole(ticker="AAPL", first=day, last=day) for day in dates))


def command(variables: dict[str, str], *arguments: str) -> str:
    """Run a command that exits with 0 or 3; return its output."""
    done = run_command(variables, *arguments)
    assert done.returncode in {0, 3}, done.stderr
    return done.stdout + done.stderr


def tick_messages(running: Platform) -> list[str]:
    """Return the skip messages of the sensor's ticks, newest first."""
    ticks = running.graphql(TICKS)["sensorOrError"]["sensorState"]["ticks"]
    assert not [tick["error"] for tick in ticks if tick["error"]]
    return [tick["skipReason"] for tick in ticks if tick["skipReason"]]


def tick_message_with(running: Platform, text: str) -> str:
    """Wait for a tick whose message contains the text; return the message."""
    return wait_until(lambda: next((message for message in tick_messages(running) if text in message), None))


def of_gaps(titles: list[str]) -> list[str]:
    """Return the subjects about the gap; the hourly checks may also report features that are not computed yet."""
    assert not [title for title in titles if GAP not in title and ":stocks/features" not in title]
    return [title for title in titles if GAP in title]


@contextmanager
def instance(variables: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    """Open the platform's Dagster instance in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            if os.environ.get(name) != value:
                patch.setenv(name, value)
        with open_instance(Settings.read()) as opened:
            yield opened


def test_each_channel_is_notified_once_of_each_severity_and_no_secret_is_written(
    tmp_path: Path, database_url: str
) -> None:
    days = sessions(Kind.STOCKS, 12)
    small, wide = days[6:8], days[:8]
    kept = f"markets: {{stocks: {{start: {days[0]}, symbols: [AAPL, SPY], timeframes: [1d]}}}}"
    heard: dict[str, str] = {}
    with Simulator(vendor_without(*small)) as vendor, mail_server() as mail, webhook() as hook:
        # The vendor's plan does not include the first six sessions yet: they are explained, the other two are not.
        vendor.change(history_edge=date.fromisoformat(days[6]))
        address = hook.url.replace("json://", f"json://{LOGIN}@")
        settings = {"ALERT_URLS": f"{address} {mail.url}", "BACKFILL_RETRY_FIRST_PAUSE": "3600"}
        variables = environment(vendor, tmp_path, database_url, kept, **settings)

        def received() -> tuple[list[str], list[str]]:
            """Return the received subjects about the gap: by webhook, and by mail."""
            return of_gaps(hook.titles), of_gaps([str(m["Subject"]) for m in mail.received])

        heard["run"] = command(variables, "run", "--features", "--start", days[6])
        heard["refused"] = command(variables, "run", "--end", days[5])

        # Two sessions are missing: one warning on each channel.
        with platform(vendor, tmp_path, database_url, kept, **settings) as running:
            wait_until(lambda: all(received()) or None)
            assert received() == ([f"WARNING: {GAP}"],) * 2
            # DAGSTER_UI_URL is not set: the link leads to this `backfill up`.
            (warning,) = [message["message"] for message in hook.received if GAP in message["title"]]
            assert f"{running.url}/assets/stocks/ohlcv_1d" in warning

        # Eight, after a restart and while the webhook is down: only the change is sent by mail.
        hook.down()
        vendor.scenario = vendor_without(*wide)
        heard["wider"] = command(variables, "repair", "--explained")
        with platform(vendor, tmp_path, database_url, kept, **settings) as running:
            heard["tick"] = tick_message_with(running, "1 message for json waiting")
            assert received() == ([f"WARNING: {GAP}"], [f"WARNING: {GAP}", f"now CRITICAL: {GAP}"])
            heard |= {"runs": json.dumps(running.graphql(RUNS)), "assets": json.dumps(running.graphql(ASSETS))}
            heard["page"] = httpx.get(f"{running.url}/").text
        assert "1 alert open." in heard["tick"]
        assert "no_missing_sessions" in heard["assets"]

        # The webhook is up again: it receives what it missed, and the mail nothing twice.
        hook.up()
        critical = [f"WARNING: {GAP}", f"now CRITICAL: {GAP}"]
        universe = read_settings(variables).universe(datetime.now(UTC).date())
        with instance(variables) as opened:
            sensor = Sensor("check_alerts", opened, lambda now: definitions(universe, now))
            for _ in range(2):
                heard["later"] = sensor.tick(datetime.now(UTC) + LATER, cursor=None)
            assert received() == (critical, critical)

            # Filled: one message of recovery on each channel.
            vendor.scenario = vendor_without()
            heard["filled"] = command(variables, "repair")
            for cursor in (sensor.cursor, None):
                heard["over"] = sensor.tick(datetime.now(UTC) + LATER, cursor=cursor)
            assert received() == ([*critical, f"RECOVERED: {GAP}"],) * 2
            assert heard["over"] == "No alert is open."

        heard["hook"] = json.dumps(hook.received)
        heard["mail"] = "".join(message.as_string() for message in mail.received)
        secrets = {"the key": KEY} | secrets_in_urls(address, mail.url)
        assert {"password of address 1", "user of address 1", "password of address 2"} <= set(secrets)
        assert find_secrets({"what is there": "AAPL has"}, database_url=database_url), "the search finds what is there"
        assert find_secrets(secrets, database_url=database_url, folders=[tmp_path], texts=heard) == []
