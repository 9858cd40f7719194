"""Gaps that a vendor's holes leave, until they are filled or explained: real tables and HTTP, a clock of the test."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange, runs_of
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import DAY_1
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
    simulated,
)
from backfill_assets_tests.support import SOAK, rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
OF_DAYS = (*INTRADAY, "1d")
"""Weeks are derived from the answered days: a day without bars is not a gap of its week."""


def noted(url, *, filled):
    """Return the rows of the table of gaps as tuples."""
    found = rows(
        url,
        "select symbol, timeframe, gap_start, gap_end, sessions, reason from backfill_gaps where filled = %s",
        filled,
    )
    tuples = [(s, t, str(DayRange(start, end)), sessions, reason) for s, t, start, end, sessions, reason in found]
    assert len(tuples) == len(set(tuples))
    return set(tuples)


async def test_exactly_the_holes_are_gaps_until_they_are_healed_or_explained(database_url):
    """Four weeks with Thanksgiving and the half day after it: two healing holes, a permanent one, a listing, a delisting."""
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

            # The coin's first week began before its market does, and is not expected.
            never_requested = gap_tuples("BTC", [*INTRADAY, "1d"], "2024-11-11 to 2024-12-06", 26, "missing")
            never_requested |= gap_tuples("BTC", ["1w"], "2024-11-17 to 2024-12-06", 20, "missing")
            for symbol in of_stocks.symbols:
                never_requested |= gap_tuples(symbol.name, ALL.split(), "2024-11-11 to 2024-12-06", 19, "missing")
            assert gaps() == never_requested

            requests = {one: one.request() for one in both}
            series = {one: await one.fetch_request(requests[one]) for one in both}
            healing = gap_tuples("AAPL", OF_DAYS, "2024-11-19 to 2024-11-20", 2, "missing")
            healing |= gap_tuples("BTC", OF_DAYS, "2024-11-16", 1, "missing")
            permanent = gap_tuples("MSFT", OF_DAYS, "2024-11-26", 1, "missing")
            unlisted = gap_tuples("NVDA", OF_DAYS, "2024-11-11 to 2024-11-19", 7, "missing")
            unlisted |= gap_tuples("NVDA", ["1w"], "2024-11-11 to 2024-11-15", 5, "missing")
            gone = gap_tuples("SPY", OF_DAYS, "2024-11-29 to 2024-12-06", 6, "missing")
            gone |= gap_tuples("SPY", ["1w"], "2024-12-02 to 2024-12-06", 5, "missing")
            assert gaps() == healing | permanent | unlisted | gone

            looked_up = [await one.look_up(requests[one], series[one]) for one in both]
            assert looked_up == [["NVDA", "SPY"], []]
            assert gaps() == healing | permanent
            closed = {row for row in noted(database_url, filled=True) if row[-1] != "missing"}
            assert closed == {(*row[:-1], "pre_listing") for row in unlisted} | {
                (*row[:-1], "delisted") for row in gone
            }

            requested, open_gaps = [], []
            for minutes in (2, 4, 8, 16, 32):  # the pauses, doubling
                clock.advance(minutes=minutes)
                before = len(vendor.requests)
                for one in both:
                    await one.fetch()
                requested.append(
                    {p[4] for p in (r.path.split("/") for r in vendor.requests[before:]) if p[7] == "minute"}
                )
                open_gaps.append(gaps())
            assert requested == [{"AAPL", "MSFT", "X:BTCUSD"}] * 2 + [{"MSFT"}] * 2 + [set()]
            explained = {(*row[:-1], "vendor_empty") for row in permanent}
            assert open_gaps == [healing | permanent, permanent, permanent, explained, explained]
            assert healing <= noted(database_url, filled=True)


async def test_a_filled_gap_stays_in_the_table_with_its_times(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        one.gaps()
        one.clock.advance(minutes=1)
        await one.fetch()
        one.clock.advance(minutes=2)
        assert one.gaps() == []
    found = rows(database_url, "select gap_start, gap_end, filled, first_seen, filled_at from backfill_gaps")
    assert found == [(date(2024, 12, 2), date(2024, 12, 6), True, SATURDAY, SATURDAY + timedelta(minutes=3))]


async def test_a_gap_that_shrinks_is_split_into_a_closed_and_an_open_one(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        one.vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 12, 4), last=date(2024, 12, 4)),))
        one.gaps()
        one.clock.advance(minutes=1)
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
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02") as one:
        one.vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 12, 4), last=date(2024, 12, 4)),))
        await one.fetch()
        found = one.gaps()
        before = rows(database_url, "select *, xmin::text from backfill_gaps order by id")
        one.clock.advance(minutes=1)
        assert one.gaps() == found
        assert rows(database_url, "select *, xmin::text from backfill_gaps order by id") == before


async def test_a_session_is_a_gap_only_once_it_has_finished(database_url):
    evening = datetime(2024, 12, 7, 1, 15, tzinfo=UTC)  # 20:15 in New York
    async with simulated(
        database_url, evening - timedelta(seconds=1), "stocks", "AAPL", "2024-12-05", timeframes="1d"
    ) as one:
        assert str(only_gap(one.gaps(), "1d").days) == "2024-12-05"
        one.clock.advance(seconds=1)
        gap = only_gap(one.gaps(), "1d")
        assert (str(gap.days), gap.sessions) == ("2024-12-05 to 2024-12-06", 2)
        assert gap.next_attempt_at == evening - timedelta(days=1) + timedelta(hours=6)


async def test_open_gaps_of_series_outside_the_universe_stay_as_they_are(database_url):
    every_row = "select *, xmin::text from backfill_gaps where (symbol, timeframe) <> ('AAPL', '1d') order by id"
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02", timeframes="1d 1w") as one:
        one.gaps()
        before = rows(database_url, every_row)
        other = one.of(replace(one.market, symbols=one.market.symbols[:1], timeframes=(DAY_1,)))
        await other.fetch()
        assert other.gaps() == []
    assert rows(database_url, every_row) == before
    assert {(symbol, timeframe) for _, symbol, timeframe, *_ in before} == {
        ("AAPL", "1w"),
        ("MSFT", "1d"),
        ("MSFT", "1w"),
    }


SESSIONS = calendar(Kind.STOCKS, DayRange(date(2024, 11, 18), date(2024, 12, 6))).sessions
some_sessions = st.sets(st.sampled_from(SESSIONS))


@settings(max_examples=100 if SOAK else 8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_sessions, min_size=1, max_size=4))
def test_missing_sessions_form_the_fewest_gaps_and_every_session_has_one_row(database_url, holes):
    """One set of sessions after the other is missing at the vendor; each is retried at once."""

    async def lived():
        async with simulated(database_url, SATURDAY, "stocks", "AAPL", str(SESSIONS[0]), timeframes="1d") as one:
            one.gaps()
            missing = set(SESSIONS)
            for absent in holes:
                missing &= absent
                one.vendor.change(holes=tuple(Hole(ticker="AAPL", first=day, last=day) for day in missing))
                await one.fetch(retry=Retry.NOW)
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


async def test_a_failed_day_keeps_only_its_week_open(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-11-11") as one:
        await one.fetch("2024-11-11", "2024-11-19", timeframes="1d")
        await one.fetch("2024-11-21", timeframes="1d")
        one.vendor.change(faults=(Fault(kind="status", path="/day/"),))
        await one.fetch()
        wednesday = gap_tuples("AAPL", ["1d"], "2024-11-20", 1, "missing")
        week = gap_tuples("AAPL", ["1w"], "2024-11-18 to 2024-11-22", 5, "missing")
        assert as_tuples(one.gaps()) == wednesday | week
        day, its_week = (only_gap(one.gaps(), timeframe) for timeframe in ("1d", "1w"))
        assert (its_week.attempts, its_week.next_attempt_at) == (day.attempts, day.next_attempt_at)
        one.vendor.change(faults=())
        await one.fetch()
        assert one.gaps() == []
        assert {row[1] for row in noted(database_url, filled=True)} == {"1d", "1w"}
