"""Sessions with far too few minutes: seen, asked for again, filled or explained."""

from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import USUAL
from backfill_assets.simulator import Hole
from backfill_assets.simulator.universe import DEFAULT_KNOWN
from backfill_assets_tests.integration.pipelines.harness import (
    ALL,
    INTRADAY,
    as_tuples,
    clock_and_vendor,
    full_market,
    gap_tuples,
    pipeline_harness,
)
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 14, 12, tzinfo=UTC)
DAY = date(2024, 12, 4)
START = "2024-10-31"
"""Thirty sessions and a day, with Thanksgiving's half day, 29 November, in them."""


def vendor_with(vendor, hole, name="THIN"):
    """A symbol that trades now and then outside the regular hours, as most do."""
    vendor.change(known=(*DEFAULT_KNOWN, name), holes=(hole,) if hole else ())


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        pytest.param("THIN", "10:00", "16:00", id="a symbol that trades in the regular hours above all"),
        pytest.param("AAPL", "09:00", "18:00", id="a symbol that trades from four to eight"),
    ],
)
async def test_a_session_without_most_of_its_minutes_is_partial_until_they_come(database_url, name, start, end):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        healed = SATURDAY + timedelta(minutes=6)
        vendor_with(vendor, Hole(ticker=name, first=DAY, last=DAY, base="minute", start=start, end=end, heal_at=healed))
        async with pipeline_harness(database_url, vendor, clock, full_market("stocks", name, START)) as one:
            await one.fetch()
            assert one.gaps() == [], "nobody has judged yet"
            (thin,) = one.judge()
            assert (thin.symbol, thin.session) == (name, DAY)
            full = len(vendor.market.minute_bars(name, DAY, DAY))
            assert thin.bars < full / 2
            assert thin.likely == pytest.approx(full, rel=0.1)
            partial = gap_tuples(name, INTRADAY, str(DAY), 1, "partial")
            found = one.gaps()
            assert as_tuples(found) == partial
            assert {(g.explained, g.attempts, g.next_attempt_at) for g in found} == {
                (False, 1, SATURDAY + timedelta(minutes=2))
            }
            asked = []
            for minutes in (1, 1, 3, 1):
                clock.advance(minutes=minutes)
                before = len(vendor.requests)
                await one.fetch()
                one.judge()
                asked.append(len(vendor.requests) - before)
                assert as_tuples(one.gaps()) == (partial if clock.now < healed else set())
            assert asked == [0, 1, 0, 1]
            assert rows(
                database_url, "select bars from session_answers where timeframe = '1m' and session = %s", DAY
            ) == [(full,)]
            closed = rows(database_url, "select distinct reason, filled_at from backfill_gaps where filled")
            assert closed == [("partial", clock.now)]


async def test_a_session_that_stays_thin_is_explained_in_the_end(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor_with(vendor, Hole(ticker="THIN", first=DAY, last=DAY, base="minute", start="10:00", end="16:00"))
        async with pipeline_harness(database_url, vendor, clock, full_market("stocks", "THIN", START)) as one:
            seen = []
            for _ in range(USUAL.attempts + 2):
                before = len(vendor.requests)
                await one.fetch("2024-10-31", "2024-12-13")
                assert [t.session for t in one.judge()] == [DAY]
                seen.append((len(vendor.requests) - before, {g.explained for g in one.gaps()}))
                clock.advance(hours=1)
            assert seen == [(2, {False}), *[(1, {False})] * (USUAL.attempts - 2), (1, {True}), *[(0, {True})] * 2]
            assert as_tuples(one.gaps()) == gap_tuples("THIN", INTRADAY, str(DAY), 1, "partial")


async def test_half_days_holidays_and_coins_are_not_called_thin(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor_with(vendor, None)
        async with pipeline_harness(database_url, vendor, clock, full_market("stocks", "THIN AAPL", START)) as one:
            coins = one.of(full_market("crypto", "BTC", START))
            for market in (one, coins):
                await market.fetch()
                assert market.judge() == []
                assert market.gaps() == []
            half, whole = (
                rows(
                    database_url,
                    "select bars from session_answers where (symbol, timeframe, session) = (%s, '1m', %s)",
                    *k,
                )
                for k in (("THIN", date(2024, 11, 29)), ("THIN", date(2024, 12, 2)))
            )
            assert half[0][0] < 0.8 * whole[0][0], "it has fewer minutes, as it should"


async def test_a_partial_mark_is_taken_back_when_the_sessions_around_it_turn_out_alike(database_url):
    """A symbol that is traded less and less: its first quiet day stands out only until others follow it."""
    with clock_and_vendor(datetime(2024, 12, 6, 12, tzinfo=UTC)) as (clock, vendor):
        quiet = Hole(
            ticker="THIN", first=date(2024, 12, 5), last=date(2025, 3, 1), base="minute", start="10:00", end="16:00"
        )
        vendor_with(vendor, quiet)
        async with pipeline_harness(
            database_url, vendor, clock, full_market("stocks", "THIN", "2024-11-18", timeframes="1m 1d")
        ) as one:
            await one.fetch()
            assert [t.session for t in one.judge()] == [date(2024, 12, 5)]
            assert [gap.reason for gap in one.gaps()] == [Reason.PARTIAL]
            clock.advance(days=60)
            await one.fetch()
            assert date(2024, 12, 5) not in {t.session for t in one.judge()}
            assert not any(date(2024, 12, 5) in gap.days for gap in one.gaps())


async def test_too_few_sessions_are_not_judged(database_url):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor_with(vendor, Hole(ticker="THIN", first=DAY, last=DAY, base="minute", start="09:35", end="20:00"))
        async with pipeline_harness(
            database_url, vendor, clock, full_market("stocks", "THIN", "2024-12-02", timeframes=ALL)
        ) as one:
            await one.fetch("2024-12-02", "2024-12-06")
            assert one.judge() == []
