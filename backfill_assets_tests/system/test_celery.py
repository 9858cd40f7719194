"""Several machines: Celery workers with homes and data folders of their own, one PostgreSQL, one Redis, one rate.

Two share a backfill, and one is killed in the middle of it: the stored bars are those of a single machine.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from backfill_assets.simulator import Fault, RequestRecord, Scenario, Simulator
from backfill_assets_tests.postgres import database_copy
from backfill_assets_tests.support import rows
from backfill_assets_tests.system.celery_workers import Worker, home, redis, worker
from backfill_assets_tests.system.platform import (
    LONG_RETRY_PAUSE,
    Platform,
    environment,
    platform,
    run_command,
    wait_until,
)

pytest.importorskip("dagster_celery", reason="the extra `celery` is not installed")

SYMBOLS = ("AAPL", "MSFT", "SPY", "AMZN")
UNIVERSE = f"markets: {{stocks: {{start: 2026-09-01, symbols: [{', '.join(SYMBOLS)}]}}}}"
FIRST, LAST = "2026-09-03", "2026-09-11"
DAYS = ("2026-09-03", "2026-09-04", "2026-09-08", "2026-09-09", "2026-09-10", "2026-09-11")  # around Labor Day
PER_SECOND = 2
HELD = Fault(kind="slow", path="/range/1/day/", times=len(SYMBOLS), seconds=20.0)
"""Each run lasts until all are launched, so that both workers have runs when one is killed."""
BARS = """
select symbol, timeframe, count(*),
  md5(string_agg(concat_ws(' ', timestamp, open, high, low, close, volume), ',' order by timestamp))
from market_data where (timestamp at time zone 'America/New_York')::date = any(%s::date[])
group by 1, 2 order by 1, 2"""
STORED = "select distinct symbol from session_answers where timeframe = '1m' and session = any(%s::date[])"
ASSETS = tuple(f'["stocks", "ohlcv_{timeframe}"]' for timeframe in ("1m", "1d"))
MARKED = """
select asset_key, split_part(partition, '|', 1), split_part(partition, '|', 2), count(*) from dagster.event_logs
where dagster_event_type = 'ASSET_MATERIALIZATION' and split_part(partition, '|', 1) = any(%s) group by 1, 2, 3"""
UNFINISHED = "select run_id, status from dagster.runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"
FAILURE_EVENTS = """
select event from dagster.event_logs where run_id = %s and dagster_event_type = 'PIPELINE_FAILURE'"""


@dataclass(frozen=True)
class Machines:
    """A machine with UI and daemon, and two with a worker each."""

    platform: Platform
    workers: tuple[Worker, Worker]

    def backfill(self) -> str:
        """Launch a backfill of DAYS and all symbols, as the Dagster UI does; return its id."""
        assets = [("stocks", f"ohlcv_{timeframe}") for timeframe in ("1m", "1d")]
        return self.platform.launch(assets, [f"{day}|{symbol}" for symbol in SYMBOLS for day in DAYS])

    def runs(self, backfill: str) -> list[dict]:
        """Return the backfill's runs, including retries."""
        return [run for run in self.platform.runs() if run["tags"].get("dagster/backfill") == backfill]

    def ended(self, backfill: str) -> list[dict] | None:
        """Return the runs once all have ended and each symbol has a successful one."""
        runs = self.runs(backfill)
        good = [run for run in runs if run["status"] == "SUCCESS"]
        over = all(run["status"] in {"SUCCESS", "FAILURE"} for run in runs)
        return runs if over and len(good) == len(SYMBOLS) else None

    def requests(self, timeframe: str = "") -> list[RequestRecord]:
        """Return the vendor's requests for bars, by their base timeframe."""
        return [r for r in self.platform.simulator.requests if f"/range/{timeframe}" in r.path]

    def worker_of(self, run: dict) -> Worker | None:
        """Return the worker whose log names the run's task."""
        task = run["tags"].get("dagster-celery/task_id", "none yet").encode()
        return next((one for one in self.workers if task in one.log.read_bytes()), None)


@pytest.fixture
def machines(tmp_path: Path, database_url: str) -> Iterator[Machines]:
    with ExitStack() as stack:
        broker = stack.enter_context(redis(tmp_path))
        simulator = stack.enter_context(Simulator(Scenario(faults=(HELD,))))
        workers = []

        def settings(name: str) -> dict[str, str]:
            return LONG_RETRY_PAUSE | {
                "DAGSTER_HOME": str(home(tmp_path / name / "home", poll_seconds=2)),
                "CELERY_BROKER_URL": broker,
                "POLYGON_REQUESTS_PER_SECOND": str(PER_SECOND),
            }

        for name in ("one", "two"):
            folder = tmp_path / name
            variables = environment(simulator, folder / "data", database_url, UNIVERSE, **settings(name))
            workers.append(stack.enter_context(worker(name, variables, folder)))
        # Without a key, the repair sensor launches no backfill of the same days.
        keyless = settings("main") | {"POLYGON_API_KEY": ""}
        main = stack.enter_context(platform(simulator, tmp_path / "main" / "data", database_url, UNIVERSE, **keyless))
        yield Machines(main, (workers[0], workers[1]))


@pytest.fixture
def another_database_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of another empty database."""
    with database_copy(postgres_server, postgres_template) as url:
        yield url


def _same_on_one_machine(machines: Machines, folder: Path, url: str) -> list[tuple]:
    """Return the bars that `backfill run` stores of the same days in an empty database."""
    variables = environment(machines.platform.simulator, folder, url, UNIVERSE, **LONG_RETRY_PAUSE)
    done = run_command(variables, "run", "--start", FIRST, "--end", LAST)
    assert done.returncode == 0, done.stderr
    return rows(url, BARS, list(DAYS))


def _assert_rate_was_kept(machines: Machines) -> None:
    # Permits are an interval apart on the database's clock; requests may arrive a little later.
    arrivals = sorted(r.monotonic for r in machines.requests())
    for start, end in itertools.combinations(arrivals, 2):
        within = sum(start <= at <= end for at in arrivals)
        assert within <= (end - start) * PER_SECOND + 2


def test_a_worker_finishes_the_runs_of_a_killed_one(machines, tmp_path, database_url, another_database_url) -> None:
    backfill = machines.backfill()
    dead, left = machines.workers

    def all_held() -> list[dict] | None:
        """Return the runs once each has stored its minutes and waits for its days."""
        held = len(machines.requests("1/day/")) == len(rows(database_url, STORED, list(DAYS))) == len(SYMBOLS)
        return machines.runs(backfill) if held else None

    begun = wait_until(all_held)
    assert len(begun) == len(SYMBOLS), "a run for each symbol"
    assert {machines.worker_of(run) for run in begun} == set(machines.workers)
    assert [run["status"] for run in begun] == ["STARTED"] * len(SYMBOLS)
    lost = [run for run in begun if machines.worker_of(run) == dead]
    dead.kill()

    wait_until(lambda: machines.ended(backfill))
    wait_until(lambda: rows(database_url, UNFINISHED) == [] or None)  # including those of sensors
    runs = machines.runs(backfill)
    failed = {run["runId"] for run in runs if run["status"] == "FAILURE"}
    assert failed == {run["runId"] for run in lost}, "only runs of the killed worker fail"
    again = [run for run in runs if "dagster/parent_run_id" in run["tags"]]
    assert sorted(run["tags"]["dagster/parent_run_id"] for run in again) == sorted(failed), "each is retried once"
    assert all(machines.worker_of(run) == left for run in again)
    for run in failed:
        assert f"The worker {dead.name} does not answer." in rows(database_url, FAILURE_EVENTS, run)[0][0]
    assert len(runs) == len(SYMBOLS) + len(lost)

    # What was stored before the kill is not requested again; what was in flight is, once.
    assert len(machines.requests("1/minute/")) == len(SYMBOLS)
    assert len(machines.requests("1/day/")) == len(SYMBOLS) + len(lost)
    _assert_rate_was_kept(machines)
    marked = rows(database_url, MARKED, list(DAYS))
    assert {(asset, day, symbol) for asset, day, symbol, _ in marked} == set(itertools.product(ASSETS, DAYS, SYMBOLS))
    assert {count for *_, count in marked} == {1}, "no partition is materialized twice"
    assert rows(database_url, BARS, list(DAYS)) == _same_on_one_machine(
        machines, tmp_path / "alone", another_database_url
    )
