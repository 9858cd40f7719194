"""Gaps as a vendor's holes make them, heal them, and as time explains them: real tables, real HTTP, a clock that is told."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.domain.days import DayRange, runs_of
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import DAY_1
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.gaps import series_of
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.pipelines.harness import (
    ALL,
    INTRADAY,
    as_tuples,
    clock_and_vendor,
    full_market,
    gap_tuples,
    only_gap,
    pipeline_harness,
)
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
OF_DAYS = (*INTRADAY, "1d")
"""Weeks are made of the days that are answered: one without bars is no gap of its week."""


def noted(url, *, filled):
    """The rows of the table of gaps as the gaps are told of."""
    found = rows(
        url,
        "select symbol, timeframe, gap_start, gap_end, sessions, reason from backfill_gaps where filled = %s",
        filled,
    )
    told_of = [(s, t, str(DayRange(start, end)), sessions, reason) for s, t, start, end, sessions, reason in found]
    assert len(told_of) == len(set(told_of))
    return set(told_of)


async def test_exactly_the_holes_are_gaps_until_they_are_healed_or_explained(database_url):
    """Four weeks with Thanksgiving and the half day after it: two healing holes, one for ever, a listing, a delisting."""
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        healed = SATURDAY + timedelta(minutes=5)
        vendor.change(
            holes=(
                Hole(ticker="AAPL", first=date(2024, 11, 19), last=date(2024, 11, 20), heal_at=healed),
                Hole(ticker="MSFT", first=date(2024, 11, 26), last=date(2024, 11, 26)),
                Hole(ticker="X:BTCUSD", first=date(2024, 11, 16), last=date(2024, 11, 16), heal_at=healed),
            ),
            listed={"NVDA": date(2024, 11, 20)},
            delisted={"SPY": date(2024, 11, 27)},
        )
        of_stocks, of_crypto = (
            full_market("stocks", "AAPL MSFT NVDA SPY", "2024-11-11"),
            full_market("crypto", "BTC", "2024-11-11"),
        )
        async with pipeline_harness(database_url, vendor, clock, of_stocks) as stocks:
            both = (stocks, stocks.of(of_crypto))

            def gaps():
                found = as_tuples(gap for one in both for gap in one.gaps())
                assert found == noted(database_url, filled=False)
                return found

            never_asked = gap_tuples("BTC", ALL.split(), "2024-11-11 to 2024-12-06", 26, "missing")
            for symbol in of_stocks.symbols:
                never_asked |= gap_tuples(symbol.name, ALL.split(), "2024-11-11 to 2024-12-06", 19, "missing")
            assert gaps() == never_asked

            requests = {one: one.request() for one in both}
            series = {one: await one.fetch_request(requests[one]) for one in both}
            healing = gap_tuples("AAPL", OF_DAYS, "2024-11-19 to 2024-11-20", 2, "missing")
            healing |= gap_tuples("BTC", OF_DAYS, "2024-11-16", 1, "missing")
            for_ever = gap_tuples("MSFT", OF_DAYS, "2024-11-26", 1, "missing")
            unlisted = gap_tuples("NVDA", OF_DAYS, "2024-11-11 to 2024-11-19", 7, "missing")
            unlisted |= gap_tuples("NVDA", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")
            gone = gap_tuples("SPY", OF_DAYS, "2024-11-29 to 2024-12-06", 6, "missing")
            gone |= gap_tuples("SPY", ["1w"], "2024-12-02 to 2024-12-06", 5, "missing")
            assert gaps() == healing | for_ever | unlisted | gone

            looked_up = [await one.look_up(requests[one], series[one]) for one in both]
            assert looked_up == [["NVDA", "SPY"], []]
            assert gaps() == healing | for_ever
            closed = {row for row in noted(database_url, filled=True) if row[-1] != "missing"}
            assert closed == {(*row[:-1], "pre_listing") for row in unlisted} | {
                (*row[:-1], "delisted") for row in gone
            }

            asked, open_gaps = [], []
            for minutes in (2, 4, 8, 16, 32):  # the pauses, doubling
                clock.advance(minutes=minutes)
                before = len(vendor.requests)
                for one in both:
                    await one.fetch()
                asked.append({p[4] for p in (r.path.split("/") for r in vendor.requests[before:]) if p[7] == "minute"})
                open_gaps.append(gaps())
            assert asked == [{"AAPL", "MSFT", "X:BTCUSD"}] * 2 + [{"MSFT"}] * 2 + [set()]
            explained = {(*row[:-1], "vendor_empty") for row in for_ever}
            assert open_gaps == [healing | for_ever, for_ever, for_ever, explained, explained]
            assert healing <= noted(database_url, filled=True)


async def test_a_filled_gap_stays_in_the_table_with_its_times(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        async with pipeline_harness(
            database_url, vendor, clock, full_market("stocks", "AAPL", "2024-12-02", timeframes="1d")
        ) as one:
            one.gaps()
            clock.advance(minutes=1)
            await one.fetch()
            clock.advance(minutes=2)
            assert one.gaps() == []
    found = rows(database_url, "select gap_start, gap_end, filled, first_seen, filled_at from backfill_gaps")
    assert found == [(date(2024, 12, 2), date(2024, 12, 6), True, SATURDAY, SATURDAY + timedelta(minutes=3))]


async def test_a_gap_that_shrinks_is_closed_in_part_and_stays_open_in_part_since_it_was_first_seen(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 12, 4), last=date(2024, 12, 4)),))
        async with pipeline_harness(
            database_url, vendor, clock, full_market("stocks", "AAPL", "2024-12-02", timeframes="1d")
        ) as one:
            one.gaps()
            clock.advance(minutes=1)
            await one.fetch()
            one.gaps()
    found = rows(
        database_url,
        "select gap_start, gap_end, sessions, filled, attempts, first_seen from backfill_gaps order by gap_start",
    )
    assert found == [
        (date(2024, 12, 2), date(2024, 12, 3), 2, True, 0, SATURDAY),
        (date(2024, 12, 4), date(2024, 12, 4), 1, False, 1, SATURDAY),
        (date(2024, 12, 5), date(2024, 12, 6), 2, True, 0, SATURDAY),
    ]


async def test_looking_again_changes_nothing(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 12, 4), last=date(2024, 12, 4)),))
        async with pipeline_harness(database_url, vendor, clock, full_market("stocks", "AAPL", "2024-12-02")) as one:
            await one.fetch()
            found = one.gaps()
            before = rows(database_url, "select *, xmin::text from backfill_gaps order by id")
            clock.advance(minutes=1)
            assert one.gaps() == found
            assert rows(database_url, "select *, xmin::text from backfill_gaps order by id") == before


async def test_a_session_that_has_just_finished_is_a_gap_and_one_that_has_not_is_none(database_url):
    evening = datetime(2024, 12, 7, 1, 15, tzinfo=UTC)  # 20:15 in New York
    with clock_and_vendor(evening - timedelta(seconds=1)) as (clock, vendor):
        async with pipeline_harness(
            database_url, vendor, clock, full_market("stocks", "AAPL", "2024-12-05", timeframes="1d")
        ) as one:
            assert str(only_gap(one.gaps(), "1d").days) == "2024-12-05"
            clock.advance(seconds=1)
            gap = only_gap(one.gaps(), "1d")
            assert (str(gap.days), gap.sessions) == ("2024-12-05 to 2024-12-06", 2)
            assert gap.next_attempt_at == evening - timedelta(days=1) + timedelta(hours=6)


async def test_what_nobody_keeps_any_more_is_no_open_gap(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        market = full_market("stocks", "AAPL MSFT", "2024-12-02", timeframes="1d 1w")
        async with pipeline_harness(database_url, vendor, clock, market) as one:
            one.gaps()
            left = replace(market, symbols=market.symbols[:1], timeframes=(DAY_1,))
            GapStore.beside(one.store).forget_others(series_of(Universe((left,))))
    assert rows(database_url, "select symbol, timeframe, filled from backfill_gaps") == [("AAPL", "1d", False)]


SESSIONS = calendar(Kind.STOCKS, DayRange(date(2024, 11, 18), date(2024, 12, 6))).sessions
some_sessions = st.sets(st.sampled_from(SESSIONS))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_sessions, min_size=1, max_size=4))
def test_whatever_is_missing_is_told_in_the_fewest_gaps_and_every_session_has_one_row(database_url, holes):
    """The vendor lacks one set of sessions after the other; each is asked for again at once."""

    async def lived():
        with clock_and_vendor(SATURDAY) as (clock, vendor):
            async with pipeline_harness(
                database_url, vendor, clock, full_market("stocks", "AAPL", str(SESSIONS[0]), timeframes="1d")
            ) as one:
                one.gaps()
                missing = set(SESSIONS)
                for lacking in holes:
                    vendor.change(holes=tuple(Hole(ticker="AAPL", first=day, last=day) for day in lacking))
                    await one.fetch(retry=Retry.NOW)
                    missing &= lacking
                    found = one.gaps()
                    assert [gap.days for gap in found] == runs_of(missing, SESSIONS)
                    assert sum(gap.sessions for gap in found) == len(missing)
                    assert as_tuples(found) == noted(database_url, filled=False)

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate market_data, session_answers, coverage, backfill_gaps")
    asyncio.run(lived())
    kept_of = rows(database_url, "select gap_start, gap_end, sessions from backfill_gaps")
    days = [day for start, end, _ in kept_of for day in SESSIONS if start <= day <= end]
    assert sorted(days) == list(SESSIONS)
    assert sum(sessions for *_, sessions in kept_of) == len(SESSIONS)


# --- Weeks


async def test_a_day_that_failed_keeps_its_week_open_and_nothing_else(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        async with pipeline_harness(database_url, vendor, clock, full_market("stocks", "AAPL", "2024-11-11")) as one:
            await one.fetch("2024-11-11", "2024-11-19", timeframes="1d")
            await one.fetch("2024-11-21", timeframes="1d")
            vendor.change(faults=(Fault(kind="status", path="/day/"),))
            await one.fetch()
            wednesday = gap_tuples("AAPL", ["1d"], "2024-11-20", 1, "missing")
            week = gap_tuples("AAPL", ["1w"], "2024-11-18 to 2024-11-22", 5, "missing")
            assert as_tuples(one.gaps()) == wednesday | week
            day, its_week = (only_gap(one.gaps(), timeframe) for timeframe in ("1d", "1w"))
            assert (its_week.attempts, its_week.next_attempt_at) == (day.attempts, day.next_attempt_at)
            vendor.change(faults=())
            await one.fetch()
            assert one.gaps() == []
            assert {row[1] for row in noted(database_url, filled=True)} == {"1d", "1w"}
