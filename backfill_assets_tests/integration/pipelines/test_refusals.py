"""Refusals by the vendor's plan on an empty store, before anything shows what the plan allows: which of them end a run."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backfill_assets.domain.errors import NotEntitled, VendorUnavailable
from backfill_assets.simulator import Fault
from backfill_assets_tests.integration.pipelines.harness import as_tuples, gap_tuples, simulated
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
EVENING = datetime(2024, 12, 6, 2, tzinfo=UTC)
"""21:00 in New York on Thursday, 5 December: the session has finished, and the day has not."""

WITHOUT_BARS = "select symbol, refused, count(*) from session_answers where bars = 0 group by 1, 2"
NAMES = "AAPL MSFT NVDA AMZN"


def failed(series):
    return {s.symbol.name: type(s.error) for s in series if s.error}


@pytest.mark.parametrize("refused", ["AAPL", "MSFT", "AMZN", "AAPL MSFT", "NVDA AMZN"])
async def test_symbols_that_the_plan_does_not_include_fail_alone_if_others_are_answered(database_url, refused):
    async with simulated(database_url, SATURDAY, "stocks", NAMES, "2024-12-02", timeframes="1m") as one:
        one.vendor.change(forbidden=tuple(refused.split()))
        series = await one.fetch()
        assert failed(series) == dict.fromkeys(refused.split(), NotEntitled)
        before = [gap_tuples(name, ["1m"], "2024-12-02 to 2024-12-05", 4, "not_entitled") for name in refused.split()]
        newest = [gap_tuples(name, ["1m"], "2024-12-06", 1, "missing") for name in refused.split()]
        assert as_tuples(one.gaps()) == set().union(*before, *newest)


@pytest.mark.parametrize("refused", [NAMES, "AAPL MSFT NVDA"])
async def test_three_refused_symbols_and_no_answer_end_the_run_and_nothing_is_recorded(database_url, refused):
    async with simulated(database_url, SATURDAY, "stocks", NAMES, "2024-12-02", timeframes="1m") as one:
        slow = Fault(kind="slow", ticker="AMZN", seconds=30.0)
        one.vendor.change(forbidden=tuple(refused.split()), faults=(slow,))
        with pytest.raises(NotEntitled, match="plan of this key does not include"):
            await asyncio.wait_for(one.fetch(), 20)
    assert {r.path.split("/")[4] for r in one.vendor.requests} <= set(NAMES.split())
    assert rows(database_url, "select * from session_answers") == []


async def test_fewer_than_three_refused_symbols_end_the_run_if_there_are_no_more(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02", timeframes="1m") as one:
        one.vendor.change(forbidden=("AAPL", "MSFT"))
        with pytest.raises(NotEntitled):
            await one.fetch()
    assert rows(database_url, "select * from session_answers") == []


async def test_a_refusal_beside_another_failure_is_reported_and_not_explained(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02", timeframes="1m") as one:
        one.vendor.change(forbidden=("AAPL",), faults=(Fault(kind="status", status=503, ticker="MSFT"),))
        series = await one.fetch()
        assert failed(series) == {"AAPL": NotEntitled, "MSFT": VendorUnavailable}
        assert {gap.reason.value for gap in one.gaps() if gap.symbol == "AAPL"} == {"missing"}
        one.vendor.change(forbidden=(), faults=())
        one.clock.advance(days=1)
        await one.fetch()
        assert one.gaps() == []


async def test_a_plan_without_today_does_not_fail_the_first_run(database_url):
    """One day of many symbols is a grouped request, and the newest one may be the first that is refused."""
    async with simulated(database_url, EVENING, "stocks", NAMES, "2024-12-03", timeframes="1d") as one:
        one.vendor.change(today_forbidden=True)
        series = await one.fetch()
        assert any("grouped" in r.path for r in one.vendor.requests)
        assert failed(series) == {}
        assert as_tuples(one.gaps()) == set().union(
            *(gap_tuples(n, ["1d"], "2024-12-05", 1, "missing") for n in NAMES.split())
        )


async def test_a_plan_without_today_is_an_error_if_only_today_is_requested(database_url):
    async with simulated(database_url, EVENING, "stocks", NAMES, "2024-12-05", timeframes="1d") as one:
        one.vendor.change(today_forbidden=True)
        with pytest.raises(NotEntitled):
            await one.fetch()


@pytest.mark.parametrize("when", ["in the same run", "in an earlier run"])
async def test_one_refusal_of_sessions_that_others_get_is_a_failure_and_retried(database_url, when):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-11-25", timeframes="1m") as one:
        await one.fetch("2024-11-25", "2024-11-26")  # of both
        days = ("2024-11-27", "2024-12-04")
        if when == "in an earlier run":
            await one.fetch_request(
                replace(one.request(*days), wanted=dict(list(one.request(*days).wanted.items())[:1]))
            )
        one.vendor.change(faults=(Fault(kind="status", status=403, ticker="MSFT"),))
        series = await one.fetch(*days)
        assert failed(series) == {"MSFT": VendorUnavailable}
        assert rows(database_url, WITHOUT_BARS) == [("MSFT", False, 5)]
        one.vendor.change(faults=())
        assert failed(await one.fetch(*days)) == {}
        assert rows(database_url, WITHOUT_BARS) == []


async def test_a_new_symbol_is_believed_to_be_excluded_at_the_second_refusal(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-11-25", timeframes="1m") as one:
        one.vendor.change(forbidden=("MSFT",))
        for refused in (False, True):
            assert failed(await one.fetch("2024-11-25", "2024-11-27")) == {"MSFT": NotEntitled}
            assert rows(database_url, WITHOUT_BARS) == [("MSFT", refused, 3)]


async def test_a_plan_whose_first_day_moves_refuses_what_it_included_before(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-11-11", timeframes="1m") as one:
        only = {s: days for s, days in one.request().wanted.items() if s.name == "AAPL"}
        await one.fetch_request(replace(one.request(), wanted=only))
        await one.fetch("2024-12-02")
        one.clock.advance(days=8)
        one.vendor.change(history_edge=date(2024, 11, 18))
        await one.fetch("2024-11-11", "2024-11-15")
        assert rows(database_url, WITHOUT_BARS) == [("MSFT", True, 5)]
