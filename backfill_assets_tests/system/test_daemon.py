"""The daemon is killed in the middle of a backfill, and the next `backfill up` finishes it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from backfill_assets.deployment.runs import BACKFILL_TAG, RANGE_START_TAG
from backfill_assets.domain.sessions import Kind
from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.postgres import database_copy
from backfill_assets_tests.support import SOAK
from backfill_assets_tests.system.platform import Platform, platform, wait_until
from backfill_assets_tests.system.sandbox import Sandbox, sandbox
from backfill_assets_tests.system.test_repair import sessions

SYMBOLS = ("AAPL", "SPY")
TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")
DAYS = sessions(Kind.STOCKS, 4)
UNIVERSE = f"markets: {{stocks: {{start: {DAYS[0]}, symbols: [{', '.join(SYMBOLS)}]}}}}"
HELD = Scenario(faults=(Fault(kind="slow", path="/range/1/day/", seconds=20.0),))
"""When the daemon is killed, minutes are stored and days are in flight."""

EVENTS = "select string_agg(event, ' ') from dagster.event_logs where run_id = any(%s)"
GONE = "The process of this run died; what it stored is kept."


@contextmanager
def undisturbed(data: Path, postgres_server: str, postgres_template: str) -> Iterator[Sandbox]:
    """Make a sandbox of the same market with another database."""
    with database_copy(postgres_server, postgres_template) as url, Simulator() as simulator:
        yield sandbox(simulator, data, url, UNIVERSE)


def launch(running: Platform) -> str:
    """Launch a backfill of all symbols, timeframes and days, as the Dagster UI does; return its id."""
    assets = [("stocks", f"ohlcv_{timeframe}") for timeframe in TIMEFRAMES]
    return running.launch(assets, [f"{day}|{symbol}" for symbol in SYMBOLS for day in DAYS])


def under_way(running: Platform, backfill: str) -> bool | None:
    """Return True if a run of the backfill waits for the vendor and none is starting, else None."""
    runs = running.runs()
    if {"NOT_STARTED", "STARTING"} & {run["status"] for run in runs}:
        return None
    requested = {r.path.split("/")[4] for r in running.simulator.requests if "/range/1/day/" in r.path}
    started = [r["tags"] for r in runs if r["status"] == "STARTED" and r["tags"].get(BACKFILL_TAG) == backfill]
    return True if requested & {tags[RANGE_START_TAG].partition("|")[2] for tags in started} else None


def over(running: Platform, backfill: str, before: set[str]) -> list[dict] | None:
    """Return the backfill's runs once they and the runs `before` have ended and each symbol has a successful one."""
    runs = running.runs()
    own = [run for run in runs if run["tags"].get(BACKFILL_TAG) == backfill]
    done = {run["tags"][RANGE_START_TAG].partition("|")[2] for run in own if run["status"] == "SUCCESS"}
    ended = {run["status"] for run in runs if run in own or run["runId"] in before} <= {"SUCCESS", "FAILURE"}
    return own if done == set(SYMBOLS) and ended else None


def kill_daemon(running: Platform, *, with_runs: bool) -> None:
    """Kill the daemon, or the daemon and the processes of runs."""
    services = {service: service.cmdline() for service in psutil.Process(running.process.pid).children()}
    (daemon,) = [service for service, command in services.items() if "dagster._daemon" in command]
    (server,) = [service for service, command in services.items() if "code-server" in command]
    for process in (daemon, *([server, *server.children(recursive=True)] if with_runs else ())):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.parametrize("with_runs", [True, False] if SOAK else [True])
def test_a_backfill_is_finished_after_its_daemon_was_killed(
    with_runs, tmp_path: Path, database_url: str, postgres_server: str, postgres_template: str
) -> None:
    with Simulator(HELD) as simulator:
        broken = sandbox(simulator, tmp_path, database_url, UNIVERSE)
        with platform(simulator, tmp_path, database_url, UNIVERSE) as first:
            backfill = launch(first)
            wait_until(lambda: under_way(first, backfill))
            before = {run["runId"] for run in first.runs()}
            kill_daemon(first, with_runs=with_runs)
            assert first.process.wait(60) == 1, "`backfill up` ends with the daemon"
        simulator.scenario = Scenario()
        with platform(simulator, tmp_path, database_url, UNIVERSE) as second:
            runs = wait_until(lambda: over(second, backfill, before))
            assert not before & {run for run, _ in broken.unfinished()}
        failed = [run["runId"] for run in runs if run["status"] == "FAILURE"]
        assert bool(failed) == with_runs, "a run outlives the daemon; a killed run is retried"
        with psycopg.connect(database_url) as connection:
            ((events,),) = connection.execute(EVENTS, [failed]).fetchall()
        assert (GONE in (events or "")) == with_runs
        with undisturbed(tmp_path / "undisturbed", postgres_server, postgres_template) as still:
            alone = still.backfill("run")
            assert alone.returncode == 0, alone.stderr
            assert broken.tables() == still.tables()
