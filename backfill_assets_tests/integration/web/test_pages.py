"""The status page and a symbol's page over HTTP: what they say, their policy, events, hostile text, no database."""

import json
import os
import re
from pathlib import Path

import psycopg
import pytest

from backfill_assets_tests.integration.cli.test_status import LOST, THIN
from backfill_assets_tests.integration.web.conftest import serving
from backfill_assets_tests.integration.web.test_health import beat
from backfill_assets_tests.support import NASTY, rows


@pytest.fixture
def filled(backfilled_except):
    """A store with a gap and a thin session, a daemon that is alive, an alert with a hostile text, and a running run."""
    backfill = backfilled_except(LOST, THIN)
    beat(backfill, 5)
    return backfill


def add_alert(backfill, sentence):
    with psycopg.connect(backfill.database_url) as connection:
        connection.execute(
            "insert into alerts (incident, severity, sentence, details, place, reminds, opened_at)"
            " values ('run:x', 'critical', %s, '[]', '{}', false, now())",
            [sentence.replace("\0", "")],
        )


def verdict(page):
    """The class and text of the sentence on top."""
    level, text = re.search(r'<p class="verdict (\w+)" role="status"><b>.</b>(.*?)</p>', page, re.DOTALL).groups()
    return level, text


def test_the_page_shows_gaps_runs_and_sources_in_a_policy_that_allows_its_own_script_only(filled):
    with psycopg.connect(filled.database_url) as connection:
        connection.execute(
            "insert into backfill_runs"
            " (run_id, kind, market, trigger, started_at, status, seen_at, requests, planned_requests)"
            " values ('abc', 'ohlcv', 'stocks', 'nightly schedule', now() - interval '1 hour', 'started', now(), 25, 100)"
        )
    with serving() as client:
        reply = client.get("/")
        page = reply.text
        level, sentence = verdict(page)
        assert level == "fair"
        assert sentence.startswith("Sessions of AAPL, BTC are missing; next attempt (UTC): 20")
        nonce = re.search(r"script-src 'nonce-([\w-]{22})'", reply.headers["content-security-policy"])[1]
        assert re.findall(r"<(?:script|style)[^>]*>", page) == [
            f'<style nonce="{nonce}">',
            re.search(rf'<script nonce="{nonce}" data-events="events" data-version="\w{{16}}">', page)[0],
        ]
        assert not re.search(r'\son\w+=|\sstyle=|(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)', page)
        assert nonce != re.search(r"'nonce-([\w-]+)'", client.get("/").headers["content-security-policy"])[1]
        started = re.search(r"<h2>Running</h2>.*?</section>", page, re.DOTALL)[0]
        (answered,) = rows(filled.database_url, "select count(*) from session_answers")[0]
        assert "nightly schedule" in started
        assert f'<td class="number">{answered}</td>' in started
        assert '<td class="number">25 of 100</td><td class="number">3 hours</td>' in started
        for words in ("no minutes from 08:00 to 24:00", "<h2>Last runs</h2>", "500 requests a second", "1m-1d"):
            assert words in page
        symbol = client.get("/symbols/AAPL").text
        assert 'class="calendar candles"' in symbol
        assert '/assets/stocks/ohlcv_1d?view=partitions"' in symbol
        assert ">BTC<" not in symbol
        wrong = client.get("/symbols/AAP")
        assert (wrong.status_code, wrong.json()["detail"]) == (
            404,
            "Symbol 'AAP' is not in the universe; did you mean AAPL?",
        )


def test_a_symbol_shows_its_features_and_its_last_restatements(filled):
    assert filled("features", "--symbols", "AAPL").code == 3  # a session is missing
    with psycopg.connect(filled.database_url) as connection:
        connection.execute(
            "insert into market_data_history (symbol, timeframe, timestamp, open, high, low, close, volume, source,"
            " ingested_at, removed) select symbol, timeframe, timestamp, open, high, low, close, volume, source, ingested_at,"
            " false from market_data where symbol = 'AAPL' and timeframe = '1d' and timestamp < '2024-03-05'"
        )
        connection.execute("insert into feature_marks values (default, 'AAPL', '1d', '[2024-03-04,2024-03-05)')")
    with serving() as client:
        page = client.get("/symbols/AAPL").text
        assert re.search(r"<td>1d</td><td>2024-03-0\d 05:00</td><td>out of date</td>", page)
        assert re.search(r"<h3>Last restatements</h3>.*?<td>1d</td><td>2024-03-04</td>", page, re.DOTALL)
        details = client.get("/api/v1/symbols/AAPL").json()
        assert [f["timeframe"] for f in details["features"] if not f["up_to_date"]] == ["1d"]
        assert [(r["timeframe"], r["day"], r["bars"]) for r in details["restatements"]] == [("1d", "2024-03-04", 1)]


@pytest.mark.usefixtures("filled")
def test_archives_are_shown_and_a_place_that_cannot_be_read_is_said(monkeypatch, tmp_path):
    universe = Path(os.environ["BACKFILL_UNIVERSE"])
    archives = "\narchives:\n  us_stocks: {kind: stocks, start: 2024-03-04, timeframes: [1d]}\n"
    universe.write_text(universe.read_text(encoding="utf-8") + archives, encoding="utf-8")
    monkeypatch.setenv("BACKFILL_ARCHIVE", str(tmp_path / "archive"))
    folder = tmp_path / "archive/archive=us_stocks/timeframe=1d/year=2024"
    folder.mkdir(parents=True)
    (folder / "2024-03-05.parquet").write_bytes(bytes(2_000_000))
    with serving() as client:
        page = client.get("/").text
        assert re.search(r"<h2>Archives</h2>.*?<td>us_stocks</td><td>1d</td><td>2024-03-05</td>", page, re.DOTALL)
        (found,) = client.get("/api/v1/archives").json()
        assert (found["sessions"], found["newest"], found["size"]) == (1, "2024-03-05", 2_000_000)
        assert found["missing"] > 600
    monkeypatch.setenv("BACKFILL_ARCHIVE", "ftp://example.org")
    with serving() as client:
        page = client.get("/").text
        assert re.search(r"<h2>Archives</h2>\s*<p>[^<]+</p>", page)
        assert client.get("/api/v1/archives").status_code == 400


def test_texts_of_others_are_shown_as_text(filled):
    add_alert(filled, NASTY)
    with serving() as client:
        page = client.get("/?year=<script>alert(1)</script>").text
        assert verdict(page)[0] == "bad"
        assert "&lt;script&gt;x&lt;/script&gt;" in page
        assert page.count("<script") == 1


def test_events_say_when_something_changes_and_not_otherwise(filled):
    with serving() as client, client.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = (json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: "))
        version = next(events)["version"]
        assert version in client.get("/").text
        assert next(events)["version"] == version
        add_alert(filled, "Something is wrong.")
        assert any(event["version"] != version for event in events)
        assert verdict(client.get("/").text) == ("bad", "Something is wrong.")


def test_an_empty_store_a_dead_daemon_and_a_complete_store_are_said_in_the_first_sentence(closed_markets):
    with serving() as client:
        assert verdict(client.get("/").text) == (
            "bad",
            "The Dagster daemon has never run: `backfill up` starts it.",
        )
        assert client.get("/symbols/AAPL").status_code == 200
    beat(closed_markets, 5)
    with serving() as client:
        assert verdict(client.get("/").text) == ("fair", "Nothing is stored yet.")
    assert closed_markets("run", "--timeframes", "1d").code == 0
    with serving() as client:
        level, sentence = verdict(client.get("/").text)
        assert (level, sentence.partition(" are missing")[0]) == ("fair", "Sessions of AAPL, MSFT, BTC")
    assert closed_markets("run").code == 0
    with serving() as client:
        assert verdict(client.get("/").text) == ("good", "Everything is stored, and the daemon works.")


@pytest.mark.usefixtures("bare_backfill")
def test_without_a_database_the_page_says_so_without_its_password():
    with serving() as client:
        reply = client.get("/")
        assert reply.status_code == 200
        level, sentence = verdict(reply.text)
        assert (level, sentence.partition(" cannot be used")[0]) == ("bad", "PostgreSQL at 127.0.0.1:1/market")
        assert "pa55word" not in reply.text
        assert client.get("/symbols/AAPL").status_code == 503
