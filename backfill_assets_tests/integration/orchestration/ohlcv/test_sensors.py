"""The sensor that repairs gaps. In place of the daemon, the tests end backfills and execute their runs."""

import json
import re
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from backfill_assets.deployment.private_api import launch_backfill, unfinished_backfills
from backfill_assets.deployment.runs import PROCESS_TAG, this_process
from backfill_assets.domain.retries import FIRST_PAUSE
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.orchestration.universes import create_run, end_backfills, range_tags
from backfill_assets_tests.support import MOMENT, market, universe

DUE = MOMENT + FIRST_PAUSE
HOLES = (("MSFT", "2025-06-18"), ("MSFT", "2025-06-24"), ("NVDA", "2025-06-26"), ("NVDA", "2025-06-27"))
MSFT_DAYS = {f"2025-06-{d}" for d in (18, 20, 23, 24)}  # Juneteenth and a weekend lie between: no sessions
NVDA_DAYS = {"2025-06-26", "2025-06-27"}
WELL = "crypto: nothing is missing."


def hole(ticker, day):
    return Hole(ticker=ticker, first=datetime.fromisoformat(day).date(), last=datetime.fromisoformat(day).date())


def fill(harness, **options):
    assert harness.run("2025-06-16|AAPL", "2025-06-30|NVDA", **options).success
    assert harness.run("2025-06-28|BTC", "2025-06-30|BTC", of="crypto", **options).success


def with_holes(harness, *holes):
    """Fetch everything at MOMENT, when the vendor has no bars of these (symbol, day)."""
    harness.vendor.change(holes=tuple(hole(*h) for h in holes))
    harness.start_from(("filled", holes), lambda: fill(harness))


def launched(harness):
    """Return all backfills, the oldest first."""
    return sorted(harness.instance.get_backfills(), key=lambda b: b.backfill_timestamp)


def targets(harness):
    """Return what the only unfinished backfill targets: by asset the days by symbol."""
    (backfill,) = unfinished_backfills(harness.instance, harness.defs.get_repository_def())
    found = {}
    for key, partitions in backfill.partitions.items():
        for day, _, symbol in (p.partition("|") for p in partitions):
            found.setdefault("/".join(key.path), {}).setdefault(symbol, set()).add(day)
    return found


# --- Launching


def test_without_a_key_nothing_is_launched(harness, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    assert harness.tick(cursor="{}") == "POLYGON_API_KEY is not set: gaps are not repaired."
    assert harness.cursor == "{}"
    assert launched(harness) == []


def test_without_gaps_nothing_is_launched(harness):
    fill(harness)
    assert harness.tick() == f"stocks: nothing is missing. {WELL}"
    assert launched(harness) == []


def test_a_market_is_repaired_by_one_backfill_over_each_symbols_first_to_last_missing_session(harness):
    with_holes(harness, *HOLES)
    message = harness.tick(DUE)
    (backfill,) = launched(harness)
    assert message == (
        f"stocks: backfill {backfill.backfill_id} repairs MSFT 2025-06-18 to 2025-06-24, NVDA 2025-06-26 to 2025-06-27. "
        + WELL
    )
    symbols = {"MSFT": MSFT_DAYS, "NVDA": NVDA_DAYS}
    assert targets(harness) == {"stocks/ohlcv_1d": symbols, "stocks/ohlcv_1w": symbols}
    assert backfill.title == "Repair of stocks gaps"
    assert backfill.tags == {
        "backfill/repair": "stocks",
        "backfill/trigger": "gap repair",
        "dagster/sensor_name": "gap_repair",
    }
    assert backfill.status is BulkActionStatus.REQUESTED
    assert backfill.backfill_timestamp == DUE.timestamp()


def test_each_market_has_its_own_backfill(harness):
    harness.tick()
    assert {b.title for b in launched(harness)} == {"Repair of stocks gaps", "Repair of crypto gaps"}
    assert {k.path[0] for b in launched(harness) for k in b.asset_selection} == {"stocks", "crypto"}


def test_the_launched_backfill_closes_the_gaps(harness):
    with_holes(harness, *HOLES)
    harness.tick(DUE)
    harness.vendor.change(holes=())
    for symbol, days in (("MSFT", MSFT_DAYS), ("NVDA", NVDA_DAYS)):
        assert harness.run(f"{min(days)}|{symbol}", f"{max(days)}|{symbol}", now=DUE).success
    end_backfills(harness.instance, status=BulkActionStatus.COMPLETED_SUCCESS)
    assert harness.tick(DUE) == f"stocks: nothing is missing. {WELL}"
    assert len(launched(harness)) == 1


# --- Waiting


def test_no_second_repair_is_launched_while_one_is_in_progress_even_if_the_cursor_is_lost(harness):
    with_holes(harness, *HOLES)
    harness.tick(DUE)
    (backfill,) = launched(harness)
    for later, cursor in ((timedelta(seconds=30), harness.cursor), (timedelta(hours=11), None)):
        assert (
            harness.tick(DUE + later, cursor=cursor) == f"stocks: repair {backfill.backfill_id} is in progress. {WELL}"
        )
    assert len(launched(harness)) == 1


def test_a_session_is_retried_when_its_pause_is_over(harness):
    with_holes(harness, *HOLES)
    assert harness.tick(DUE - timedelta(seconds=1)) == f"stocks: next attempt at 2025-07-01 12:02:00 UTC. {WELL}"
    assert launched(harness) == []
    harness.tick(DUE)
    assert len(launched(harness)) == 1


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
def test_a_symbol_waits_for_a_run_over_its_days_while_the_others_are_repaired(harness, status):
    with_holes(harness, *HOLES)
    run = create_run(harness.instance, status, range_tags("2025-06-24|MSFT", "2025-06-30|MSFT"))
    message = harness.tick(DUE)
    assert "repairs NVDA 2025-06-26 to 2025-06-27; MSFT: a run over these days is under way." in message
    assert targets(harness)["stocks/ohlcv_1d"] == {"NVDA": NVDA_DAYS}

    end_backfills(harness.instance)
    harness.instance.report_run_failed(run)
    assert "repairs MSFT 2025-06-18 to 2025-06-24; next attempt at 2025-07-01 12:04:00 UTC." in harness.tick(DUE)


def test_the_sensor_waits_for_manually_launched_backfills_too(harness):
    with_holes(harness, *HOLES)
    repository = harness.defs.get_repository_def()
    launch_backfill(
        harness.instance,
        repository,
        [dg.AssetKey(["stocks", "ohlcv_1d"])],
        [("2025-06-20|MSFT", "2025-06-20|NVDA")],
        title="By hand",
        tags={},
        at=MOMENT,
    )
    assert "repairs NVDA 2025-06-26 to 2025-06-27; MSFT: a run over these days is under way." in harness.tick(DUE)


def test_a_run_whose_process_died_is_marked_as_failed(harness):
    with_holes(harness, ("MSFT", "2025-06-18"))
    tags = range_tags("2025-06-16|AAPL", "2025-06-30|NVDA")
    dead = create_run(
        harness.instance, dg.DagsterRunStatus.STARTED, tags | this_process() | {PROCESS_TAG: f"{2**22 + 1}@1.00"}
    )
    assert "repairs MSFT 2025-06-18." in harness.tick(DUE)
    assert harness.instance.get_run_by_id(dead.run_id).status is dg.DagsterRunStatus.FAILURE


# --- Restarts


def test_the_cursor_remembers_launches(harness):
    """Also a launch whose run sent no request, and after a restart."""
    with_holes(harness, ("MSFT", "2025-06-18"))
    harness.tick(DUE)
    kept = harness.cursor
    harness.tick(DUE)
    assert harness.cursor == kept
    end_backfills(harness.instance)
    assert harness.tick(DUE, cursor=kept) == f"stocks: next attempt at 2025-07-01 12:04:00 UTC. {WELL}"
    assert len(launched(harness)) == 1


@pytest.mark.parametrize(
    "cursor",
    [
        "not JSON",
        "[]",
        "3",
        '{"stocks": {}}',
        '{"process": "1", "tried": {"stocks": {"MSFT": {}}}}',
        '{"process": "1", "tried": {"stocks": {"MSFT": {"state": "", "times": 1, "at": "noon"}}}}',
    ],
)
def test_an_unreadable_cursor_is_ignored(harness, cursor):
    with_holes(harness, ("MSFT", "2025-06-18"))
    assert "repairs MSFT 2025-06-18." in harness.tick(DUE, cursor=cursor)
    assert re.search(r'"tried": \{"stocks": \{"MSFT": \{.*\}\}, "crypto": \{\}\}', harness.cursor)


# --- A refused key


def test_a_refused_key_is_tried_once_an_hour_and_at_once_by_a_new_process(harness):
    harness.vendor.change(api_keys=("another",))
    assert not harness.run("2025-06-16|AAPL", "2025-06-30|NVDA").success
    pauses = "The API key is refused: repair waits until 2025-07-01 13:00 UTC, or until `backfill up` is started"
    assert "stocks: backfill " in harness.tick(cursor=None)
    assert harness.tick(MOMENT + timedelta(minutes=59)).startswith(pauses)
    assert json.loads(harness.cursor)["tried"] == {}, "what the key prevented is no attempt"
    end_backfills(harness.instance)
    paused = harness.cursor
    assert "stocks: backfill " in harness.tick(MOMENT + timedelta(hours=1))
    end_backfills(harness.instance)
    assert "stocks: backfill " in harness.tick(cursor=paused.replace(json.loads(paused)["process"], "1@another"))
    end_backfills(harness.instance)
    harness.vendor.change(api_keys=())
    assert harness.run("2025-06-16|AAPL", "2025-06-16|AAPL").success
    assert "refused" not in harness.tick()


# --- Attempts


def test_sessions_without_attempts_left_are_not_repaired(harness, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    harness.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/aggs/"),))
    for now in (MOMENT, DUE):
        assert not harness.run("2025-06-16|AAPL", "2025-06-30|NVDA", now=now).success
    assert harness.run("2025-06-28|BTC", "2025-06-30|BTC", of="crypto").success
    assert harness.tick(DUE + timedelta(hours=1)) == (
        f"stocks: MSFT: all attempts are used up; run `backfill repair` to retry. {WELL}"
    )
    assert launched(harness) == []


def test_a_new_session_is_left_to_the_nightly_run_for_six_hours(harness):
    fill(harness)
    settled = datetime(2025, 7, 2, 0, 15, tzinfo=UTC)
    message = harness.tick(settled + timedelta(hours=6, seconds=-1))
    assert message.startswith("stocks: next attempt at 2025-07-02 06:15:00 UTC. crypto:")
    assert "stocks: backfill " in harness.tick(settled + timedelta(hours=6))


@pytest.mark.parametrize(
    ("names", "timeframes", "start"),
    [
        pytest.param(["AAPL"], "1d 1w", date(2025, 6, 16), id="fewer symbols"),
        pytest.param(["AAPL", "MSFT", "NVDA"], "1d", date(2025, 6, 16), id="fewer timeframes"),
        pytest.param(["AAPL", "MSFT", "NVDA"], "1d 1w", date(2025, 6, 24), id="a later start"),
    ],
)
def test_a_repair_launched_before_the_universe_changed_is_recognized(harness, names, timeframes, start):
    harness.tick()
    (repair,) = [b for b in launched(harness) if b.tags["backfill/repair"] == "stocks"]
    harness.universe = universe(market("stocks", *names, timeframes=timeframes, start=start))
    later = MOMENT + timedelta(seconds=30)
    assert harness.tick(later) == f"stocks: repair {repair.backfill_id} is in progress."
    end_backfills(harness.instance)
    assert "stocks: backfill " in harness.tick(later + FIRST_PAUSE)


def test_open_gaps_outside_the_universe_are_neither_repaired_nor_deleted(harness):
    """They may be those of another platform on the database."""
    every_row = "select *, xmin::text from backfill_gaps where symbol = 'MSFT'"
    with_holes(harness, ("MSFT", "2025-06-18"))
    harness.tick()
    before = harness.rows(every_row)
    harness.universe = universe(market("stocks", "AAPL", timeframes="1d"))
    assert "MSFT" not in harness.tick(MOMENT + timedelta(seconds=1))
    assert harness.rows(every_row) == before != []
