"""What the vendor's plan does not include: days before its history, today, symbols; and the gaps that this leaves."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backfill_assets.domain.errors import NotEntitled
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import Retry
from backfill_assets_tests.integration.pipelines.harness import (
    as_tuples,
    clock_and_vendor,
    full_market,
    gap_tuples,
    pipeline_harness,
    simulated,
)

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
EVENING = datetime(2024, 12, 6, 2, tzinfo=UTC)
"""21:00 in New York on Thursday, 5 December: the session has finished, and the day has not."""

EDGE = date(2024, 11, 20)
WEEKS = ("1d", "1w")


def sent(vendor, before):
    """Return what was requested since: ticker, first and last day, or the day of a grouped request."""
    paths = [r.path.split("/") for r in vendor.requests[before:]]
    return sorted((p[4], *p[8:]) if p[3] == "ticker" else ("grouped", p[-1]) for p in paths)


@pytest.mark.parametrize("timeframes", ["1m 1h 1d 1w", "1d 1w"])
async def test_days_before_the_plans_history_are_requested_twice_and_then_explained(database_url, timeframes):
    """The first request spans the edge and gets fewer days; the second lies before it and is refused."""
    of_days = [t for t in timeframes.split() if t != "1w"]
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-11-11", timeframes=timeframes) as one:
        one.vendor.change(history_edge=EDGE)
        series = await one.fetch()
        assert not any(s.error for s in series)
        week = gap_tuples("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")
        assert as_tuples(one.gaps()) == gap_tuples("AAPL", of_days, "2024-11-11 to 2024-11-19", 7, "missing") | week
        one.clock.advance(minutes=2)
        before = len(one.vendor.requests)
        series = await one.fetch()
        assert {request[1:] for request in sent(one.vendor, before)} == {("2024-11-11", "2024-11-19")}
        assert not any(s.error for s in series), "the edge of the history is not a failure"
        found = one.gaps()
        week = gap_tuples("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "not_entitled")
        assert as_tuples(found) == gap_tuples("AAPL", of_days, "2024-11-11 to 2024-11-19", 7, "not_entitled") | week
        assert all(gap.explained and gap.next_attempt_at is None for gap in found)

        before = len(one.vendor.requests)
        for retry in (Retry.DUE, Retry.NOW, Retry.DUE, Retry.NOW):
            one.clock.advance(hours=6)
            await one.fetch(retry=retry)
        assert sent(one.vendor, before) == []
        await one.fetch(retry=Retry.EXPLAINED)
        assert len(sent(one.vendor, before)) == len({"1m", "1d"} & set(of_days))
        assert as_tuples(one.gaps()) == as_tuples(found)
        one.vendor.change(history_edge=None)  # a larger plan
        await one.fetch(retry=Retry.EXPLAINED)
        assert one.gaps() == []


async def test_a_grouped_day_before_the_edge_is_refused_for_all_its_symbols_at_once(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT NVDA", "2024-11-11", timeframes="1d 1w") as one:
        await one.fetch("2024-11-20", timeframes="1d")
        one.vendor.change(history_edge=EDGE)
        before = len(one.vendor.requests)
        series = await one.fetch("2024-11-18", "2024-11-19", timeframes="1d")
        assert sent(one.vendor, before) == [("grouped", "2024-11-18"), ("grouped", "2024-11-19")]
        assert not any(s.error for s in series)
        refused = {gap for gap in one.gaps() if gap.reason is Reason.NOT_ENTITLED and gap.timeframe == "1d"}
        expected = [
            gap_tuples(s.name, ["1d"], "2024-11-18 to 2024-11-19", 2, "not_entitled") for s in one.market.symbols
        ]
        assert as_tuples(refused) == set().union(*expected)
        before = len(one.vendor.requests)
        await one.fetch("2024-11-18", "2024-11-19")
        assert sent(one.vendor, before) == []


async def test_the_week_at_the_edge_is_not_derived_from_the_days_that_the_plan_includes(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-11-11", timeframes="1d 1w") as one:
        await one.fetch("2024-11-20", timeframes="1d")
        one.vendor.change(history_edge=EDGE)
        await one.fetch("2024-11-18")
        await one.fetch("2024-11-18")
        weeks = [gap for gap in one.gaps() if gap.timeframe == "1w"]
        assert as_tuples(weeks) == (
            gap_tuples("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")
            | gap_tuples("AAPL", ["1w"], "2024-11-18 to 2024-11-22", 5, "not_entitled")
        )


@pytest.mark.parametrize("names", ["AAPL", "AAPL MSFT NVDA"])
async def test_under_a_plan_without_today_earlier_days_are_fetched_and_today_stays_missing(database_url, names):
    async with simulated(database_url, EVENING, "stocks", names, "2024-12-02", timeframes="1m 1d") as one:
        one.vendor.change(today_forbidden=True)
        series = await one.fetch()
        assert not any(s.error for s in series)
        today = [gap_tuples(name, ["1m", "1d"], "2024-12-05", 1, "missing") for name in names.split()]
        assert as_tuples(one.gaps()) == set().union(*today)
        one.clock.advance(hours=3)  # midnight has passed in New York
        await one.fetch()
        assert one.gaps() == []


async def test_a_nightly_run_under_a_plan_without_today_retries_the_day(database_url):
    """One new day of several symbols is one grouped request for the daily bars: refused today, allowed tomorrow."""
    async with simulated(database_url, EVENING, "stocks", "AAPL MSFT NVDA", "2024-12-02", timeframes="1m 1d") as one:
        one.vendor.change(today_forbidden=True)
        await one.fetch("2024-12-02", "2024-12-04")
        assert one.request("2024-12-05").days.start == one.request().newest
        before = len(one.vendor.requests)
        await one.fetch()
        assert ("grouped", "2024-12-05") in sent(one.vendor, before)
        assert {(gap.reason, gap.explained) for gap in one.gaps()} == {(Reason.MISSING, False)}
        one.clock.advance(days=1)
        await one.fetch()
        assert {str(gap.days) for gap in one.gaps()} == {"2024-12-06"}


async def test_a_plan_that_includes_nothing_is_an_error(database_url):
    async with simulated(database_url, EVENING, "stocks", "AAPL MSFT", "2024-12-02") as one:
        one.vendor.change(forbidden=("stocks",))
        with pytest.raises(NotEntitled):
            await one.fetch()
        assert {gap.reason for gap in one.gaps()} == {Reason.MISSING}


async def test_a_symbol_that_the_plan_does_not_include_fails_once_and_is_then_explained(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(forbidden=("MSFT",))
        market = full_market("stocks", "AAPL MSFT", "2024-12-02", timeframes="1m")
        async with pipeline_harness(database_url, vendor, clock, replace(market, symbols=market.symbols[:1])) as one:
            await one.fetch()
            both = one.of(market)
            series = await both.fetch()
            assert [(s.symbol.name, type(s.error)) for s in series if s.error] == [("MSFT", NotEntitled)]
            before = gap_tuples("MSFT", ["1m"], "2024-12-02 to 2024-12-05", 4, "not_entitled")
            newest = gap_tuples("MSFT", ["1m"], "2024-12-06", 1, "missing")
            assert as_tuples(both.gaps()) == before | newest
            clock.advance(days=7)
            await both.fetch()
            before = gap_tuples("MSFT", ["1m"], "2024-12-02 to 2024-12-12", 9, "not_entitled")
            newest = gap_tuples("MSFT", ["1m"], "2024-12-13", 1, "missing")
            assert as_tuples(both.gaps()) == before | newest
