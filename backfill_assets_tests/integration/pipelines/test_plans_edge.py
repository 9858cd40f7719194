"""What the vendor's plan does not include: days before its history, today, symbols; and what stands of it as gaps."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backfill_assets.domain.errors import NotEntitled
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import Retry
from backfill_assets_tests.integration.pipelines.harness import kept, over, pipeline_harness, ticking, told

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
EVENING = datetime(2024, 12, 6, 2, tzinfo=UTC)
"""21:00 in New York on Thursday, 5 December: the session has finished, and the day has not."""

EDGE = date(2024, 11, 20)
WEEKS = ("1d", "1w")


def sent(vendor, before):
    """What was asked for since: ticker and first and last day, or the day of a grouped request."""
    paths = [r.path.split("/") for r in vendor.requests[before:]]
    return sorted((p[4], *p[8:]) if p[3] == "ticker" else ("grouped", p[-1]) for p in paths)


@pytest.mark.parametrize("timeframes", ["1m 1h 1d 1w", "1d 1w"])
async def test_days_before_the_edge_are_asked_for_twice_and_then_known_not_to_be_in_the_plan(database_url, timeframes):
    """The first request reaches over the edge and is answered with less; the second lies before it and is refused."""
    of_days = [t for t in timeframes.split() if t != "1w"]
    with ticking(SATURDAY) as (clock, vendor):
        vendor.change(history_edge=EDGE)
        async with pipeline_harness(
            database_url, vendor, clock, kept("stocks", "AAPL", "2024-11-11", timeframes=timeframes)
        ) as one:
            series = await one.fetch()
            assert not any(s.error for s in series)
            week = over("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")
            assert told(one.gaps()) == over("AAPL", of_days, "2024-11-11 to 2024-11-19", 7, "missing") | week
            clock.pass_(minutes=2)
            before = len(vendor.requests)
            series = await one.fetch()
            assert {request[1:] for request in sent(vendor, before)} == {("2024-11-11", "2024-11-19")}
            assert not any(s.error for s in series), "an edge is no failure"
            found = one.gaps()
            week = over("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "not_entitled")
            assert told(found) == over("AAPL", of_days, "2024-11-11 to 2024-11-19", 7, "not_entitled") | week
            assert all(gap.explained and gap.next_attempt_at is None for gap in found)

            before = len(vendor.requests)
            for retry in (Retry.DUE, Retry.NOW, Retry.DUE, Retry.NOW):
                clock.pass_(hours=6)
                await one.fetch(retry=retry)
            assert sent(vendor, before) == []
            await one.fetch(retry=Retry.EXPLAINED)
            assert len(sent(vendor, before)) == len({"1m", "1d"} & set(of_days))
            assert told(one.gaps()) == told(found)
            vendor.change(history_edge=None)  # a larger plan
            await one.fetch(retry=Retry.EXPLAINED)
            assert one.gaps() == []


async def test_a_request_that_lies_before_the_edge_is_refused_at_once_for_all_symbols_of_a_grouped_day(database_url):
    with ticking(SATURDAY) as (clock, vendor):
        market = kept("stocks", "AAPL MSFT NVDA", "2024-11-11", timeframes="1d 1w")
        async with pipeline_harness(database_url, vendor, clock, market) as one:
            await one.fetch("2024-11-20", timeframes="1d")
            vendor.change(history_edge=EDGE)
            before = len(vendor.requests)
            series = await one.fetch("2024-11-18", "2024-11-19", timeframes="1d")
            assert sent(vendor, before) == [("grouped", "2024-11-18"), ("grouped", "2024-11-19")]
            assert not any(s.error for s in series)
            refused = {gap for gap in one.gaps() if gap.reason is Reason.NOT_ENTITLED and gap.timeframe == "1d"}
            expected = [over(s.name, ["1d"], "2024-11-18 to 2024-11-19", 2, "not_entitled") for s in market.symbols]
            assert told(refused) == set().union(*expected)
            before = len(vendor.requests)
            await one.fetch("2024-11-18", "2024-11-19")
            assert sent(vendor, before) == []


async def test_the_week_that_the_edge_cuts_is_made_of_what_the_plan_has(database_url):
    with ticking(SATURDAY) as (clock, vendor):
        async with pipeline_harness(
            database_url, vendor, clock, kept("stocks", "AAPL", "2024-11-11", timeframes="1d 1w")
        ) as one:
            await one.fetch("2024-11-20", timeframes="1d")
            vendor.change(history_edge=EDGE)
            await one.fetch("2024-11-18")
            await one.fetch("2024-11-18")
            weeks = [gap for gap in one.gaps() if gap.timeframe == "1w"]
            assert told(weeks) == over("AAPL", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")


@pytest.mark.parametrize("names", ["AAPL", "AAPL MSFT NVDA"])
async def test_a_plan_without_today_gives_what_is_before_and_today_stays_missing(database_url, names):
    with ticking(EVENING) as (clock, vendor):
        vendor.change(today_forbidden=True)
        market = kept("stocks", names, "2024-12-02", timeframes="1m 1d")
        async with pipeline_harness(database_url, vendor, clock, market) as one:
            series = await one.fetch()
            assert not any(s.error for s in series)
            today = [over(name, ["1m", "1d"], "2024-12-05", 1, "missing") for name in names.split()]
            assert told(one.gaps()) == set().union(*today)
            clock.pass_(hours=3)  # midnight has passed in New York
            await one.fetch()
            assert one.gaps() == []


async def test_a_night_under_a_plan_without_today_does_not_give_the_day_up(database_url):
    """One new day of several symbols is one grouped request for the daily bars: refused today, given tomorrow."""
    with ticking(EVENING) as (clock, vendor):
        vendor.change(today_forbidden=True)
        market = kept("stocks", "AAPL MSFT NVDA", "2024-12-02", timeframes="1m 1d")
        async with pipeline_harness(database_url, vendor, clock, market) as one:
            await one.fetch("2024-12-02", "2024-12-04")
            assert one.request("2024-12-05").days.start == one.request().newest
            before = len(vendor.requests)
            await one.fetch()
            assert ("grouped", "2024-12-05") in sent(vendor, before)
            assert {(gap.reason, gap.explained) for gap in one.gaps()} == {(Reason.MISSING, False)}
            clock.pass_(days=1)
            await one.fetch()
            assert {str(gap.days) for gap in one.gaps()} == {"2024-12-06"}


async def test_a_plan_that_has_nothing_says_so(database_url):
    with ticking(EVENING) as (clock, vendor):
        vendor.change(forbidden=("stocks",))
        async with pipeline_harness(database_url, vendor, clock, kept("stocks", "AAPL MSFT", "2024-12-02")) as one:
            with pytest.raises(NotEntitled):
                await one.fetch()
            assert {gap.reason for gap in one.gaps()} == {Reason.MISSING}


async def test_a_symbol_that_the_plan_does_not_have_is_an_error_of_its_own_and_then_explained(database_url):
    with ticking(SATURDAY) as (clock, vendor):
        vendor.change(forbidden=("MSFT",))
        market = kept("stocks", "AAPL MSFT", "2024-12-02", timeframes="1m")
        async with pipeline_harness(database_url, vendor, clock, replace(market, symbols=market.symbols[:1])) as one:
            await one.fetch()
            both = one.of(market)
            series = await both.fetch()
            assert [(s.symbol.name, type(s.error)) for s in series if s.error] == [("MSFT", NotEntitled)]
            before = over("MSFT", ["1m"], "2024-12-02 to 2024-12-05", 4, "not_entitled")
            newest = over("MSFT", ["1m"], "2024-12-06", 1, "missing")
            assert told(both.gaps()) == before | newest
            clock.pass_(days=7)
            await both.fetch()
            before = over("MSFT", ["1m"], "2024-12-02 to 2024-12-12", 9, "not_entitled")
            newest = over("MSFT", ["1m"], "2024-12-13", 1, "missing")
            assert told(both.gaps()) == before | newest
