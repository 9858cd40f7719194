"""Concurrent `backfill run` commands over overlapping ranges share one rate and write the same tables."""

import itertools
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest

from backfill_assets.simulator import RateLimit, RequestRecord, Scenario, Simulator
from backfill_assets_tests.support import SOAK
from backfill_assets_tests.system.sandbox import Sandbox, sandbox

RATE = 4
LIMIT = RateLimit(requests=10 * RATE, seconds=9.0)
"""The vendor's sliding window. The limiter leaves 2 % free for requests that arrive late: 1.2 s of the vendor's real window
of a minute. That would be 0.2 s of ten seconds, so the window here is one second shorter."""

FIRST, LAST = "2026-09-08", "2026-09-11"
GROUPS = (
    "AAPL ABBV ABT ADBE AMD AMZN AVGO BA BAC C CAT COST INTC IWM JNJ JPM KO LLY",
    "CRM CSCO CVX DIA DIS F GE GLD GOOG GS HD IBM MA MCD META MRK MSFT NKE",
)
RANGES = ((FIRST, "2026-09-10"), ("2026-09-09", LAST))
"""Two processes request each group; two of the four days are common to both."""

SYMBOLS = ",".join(GROUPS).replace(" ", ",")
UNIVERSE = f"markets: {{stocks: {{start: {FIRST}, timeframes: [1m], symbols: [{SYMBOLS}]}}}}"
COUNTERS = ("answers", "attempts")
"""Columns that count the requests of a session: common days are requested twice."""


def process_of(request: RequestRecord) -> tuple[int, bool]:
    """Return the process that sent a request: its group of symbols, and whether its range begins with the first day."""
    *_, ticker, _range, _multiplier, _timespan, start, _end = request.path.split("/")
    return [ticker in group.split() for group in GROUPS].index(True), start == FIRST


def run_all(here: Sandbox) -> None:
    started = [
        here.start("run", "--symbols", group.replace(" ", ","), "--start", start, "--end", end)
        for group, (start, end) in itertools.product(GROUPS, RANGES)
    ]
    for process in started:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stdout + stderr


def empty(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("truncate market_data, session_answers, coverage, backfill_gaps cascade")


@pytest.mark.parametrize("_again", range(10 if SOAK else 1))
def test_four_processes_keep_one_rate(_again: int, tmp_path: Path, database_url: str) -> None:
    with Simulator(Scenario(rate_limit=LIMIT)) as simulator:
        here = sandbox(simulator, tmp_path, database_url, UNIVERSE, POLYGON_REQUESTS_PER_SECOND=str(RATE))
        run_all(here)
        requests = sorted(simulator.requests, key=lambda request: request.monotonic)
        together = here.tables(*COUNTERS)
        empty(database_url)
        simulator.scenario = Scenario()
        alone = sandbox(simulator, tmp_path, database_url, UNIVERSE, POLYGON_REQUESTS_PER_SECOND="500")
        done = alone.backfill("run", "--start", FIRST, "--end", LAST)
        assert done.returncode == 0, done.stdout + done.stderr
        assert together == alone.tables(*COUNTERS)
    assert len(together["market_data"]) == len(SYMBOLS.split(","))
    assert_rate_was_kept_and_used(requests)
    assert_no_process_starved(requests)


def assert_rate_was_kept_and_used(requests: list[RequestRecord]) -> None:
    assert {request.status for request in requests} == {200}  # no 429
    assert len(requests) - 1 <= RATE * (requests[-1].monotonic - requests[0].monotonic)
    # From the third request of the last process: four that load Dagster at once on two cores start late.
    begun = max(times[2] for times in times_by_process(requests).values())
    busy = [request.monotonic for request in requests if request.monotonic >= begun]
    assert len(busy) > len(requests) / 2
    assert len(busy) - 1 >= 0.95 * RATE * (busy[-1] - busy[0])


def assert_no_process_starved(requests: list[RequestRecord]) -> None:
    times = times_by_process(requests)
    assert len(times) == 4
    begun, ended = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
    counts = [sum(begun <= at <= ended for at in t) for t in times.values()]
    assert min(counts) >= max(counts) / 2, counts


def times_by_process(requests: list[RequestRecord]) -> dict[tuple[int, bool], list[float]]:
    """Return the ascending times of each process's requests."""
    times: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for request in requests:
        times[process_of(request)].append(request.monotonic)
    return times
