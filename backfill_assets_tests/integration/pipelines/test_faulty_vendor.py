"""A vendor whose responses are faulty in a third of all cases, and one that cannot be reached."""

from types import SimpleNamespace

import psycopg
import pytest

from backfill_assets.adapters.polygon import RetryPolicy
from backfill_assets.domain.errors import VendorUnreachable
from backfill_assets.simulator import Fault, Scenario, Simulator
from backfill_assets_tests.integration.pipelines.test_ohlcv import backfill_request, filled, snapshot
from backfill_assets_tests.support import KEY, MOMENT, rows, unused_port

KINDS = (
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 429, "retry_after": 1.0},
    {"kind": "status", "status": 503},
    {"kind": "error_in_200"},
    {"kind": "cut_body"},
    {"kind": "html", "status": 502},
    {"kind": "reset"},
    {"kind": "malformed_json"},
    {"kind": "slow", "seconds": 0.05},
    {"kind": "duplicates"},
    {"kind": "disorder"},
    {"kind": "out_of_range"},
)
# Each rule applies to every request, so the shares add up to a third.
SHARE = 1 - (2 / 3) ** (1 / len(KINDS))
FAULTS = tuple(Fault(probability=SHARE, seed=n, **kind) for n, kind in enumerate(KINDS))


async def test_a_fetch_succeeds_although_a_third_of_all_responses_is_faulty(database_url: str) -> None:
    requests = [
        backfill_request("stocks", "AAPL SPY MSFT NVDA TSLA AMZN", "2024-03-04", "2024-03-22"),
        backfill_request("crypto", "BTC ETH", "2024-03-04", "2024-04-12"),  # two pages of minutes
    ]
    with Simulator(Scenario(faults=FAULTS), now=lambda: MOMENT) as simulator:
        for what in requests:
            for _ in range(3):  # all six attempts of one series may fail
                series = await filled(database_url, simulator, what, patient=True)
                if not any(s.error for s in series):
                    break
            assert not [s.error for s in series if s.error]
        seen = {r.fault for r in simulator.requests}
        assert sum(r.fault is not None for r in simulator.requests) > len(simulator.requests) / 5, seen
        faulty = snapshot(database_url)
        simulator.scenario = Scenario()
        with psycopg.connect(database_url) as connection:
            connection.execute("truncate market_data, session_answers, coverage")
        for what in requests:
            await filled(database_url, simulator, what, patient=True)
        expected = snapshot(database_url)
    assert [row[:-1] for row in faulty["market_data"]] == [row[:-1] for row in expected["market_data"]]
    assert faulty["coverage"] == expected["coverage"]


async def test_an_unreachable_vendor_ends_the_run_after_three_series(database_url: str) -> None:
    what = backfill_request("stocks", "AAPL SPY MSFT NVDA TSLA", "2024-03-04", "2024-03-08")
    closed = SimpleNamespace(url=f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(VendorUnreachable) as caught:
        await filled(database_url, closed, what, patient=True, at_once=1)
    assert str(caught.value).startswith(f"{closed.url.removeprefix('http://')} cannot be reached (ConnectError ")
    assert KEY not in str(caught.value)
    assert snapshot(database_url)["session_answers"] == []


async def test_three_unanswered_requests_that_are_not_in_a_row_do_not_end_the_run(
    database_url: str, vendor: Simulator
) -> None:
    names = "AAPL SPY MSFT NVDA TSLA AMZN"
    what = backfill_request("stocks", names, "2024-03-04", "2024-03-08", timeframes="1m")
    silent = ("AAPL", "MSFT", "TSLA")
    vendor.change(faults=tuple(Fault(kind="reset", ticker=name) for name in silent))
    series = await filled(database_url, vendor, what, at_once=1, retry=RetryPolicy(attempts=2))
    assert {s.symbol.name for s in series if isinstance(s.error, VendorUnreachable)} == set(silent)
    failed = rows(database_url, "select distinct symbol from session_answers where failures = 1")
    assert {symbol for (symbol,) in failed} == set(silent)
