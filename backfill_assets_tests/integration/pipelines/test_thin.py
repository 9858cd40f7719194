"""Sessions with far too few minutes: detected, retried, filled or explained."""

from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import USUAL
from backfill_assets.pipelines.gaps import judge_minutes
from backfill_assets.simulator import Hole
from backfill_assets.simulator.universe import DEFAULT_KNOWN
from backfill_assets_tests.integration.pipelines.harness import (
    ALL,
    INTRADAY,
    as_tuples,
    full_market,
    gap_tuples,
    simulated,
)
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 14, 12, tzinfo=UTC)
DAY = date(2024, 12, 4)
START = "2024-10-31"
"""Thirty sessions and a day, with Thanksgiving's half day, 29 November, in them."""


def vendor_with(vendor, hole, name="THIN"):
    """Make the vendor know a symbol that trades mostly in the regular hours."""
    vendor.change(known=(*DEFAULT_KNOWN, name), holes=(hole,) if hole else ())


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        pytest.param("THIN", "10:00", "16:00", id="a symbol that trades in the regular hours above all"),
        pytest.param("AAPL", "09:00", "18:00", id="a symbol that trades from four to eight"),
    ],
)
async def test_a_session_without_most_of_its_minutes_is_partial_until_they_arrive(database_url, name, start, end):
    async with simulated(database_url, SATURDAY, "stocks", name, START) as one:
        healed = SATURDAY + timedelta(minutes=6)
        vendor_with(
            one.vendor, Hole(ticker=name, first=DAY, last=DAY, base="minute", start=start, end=end, heal_at=healed)
        )
        await one.fetch()
        assert one.gaps() == [], "minutes have not been judged yet"
        read = one.read_gaps()
        (thin,) = one.judge()
        assert (thin.symbol, thin.session) == (name, DAY)
        full = len(one.vendor.market.minute_bars(name, DAY, DAY))
        assert thin.bars < full / 2
        assert thin.likely == pytest.approx(full, rel=0.1)
        partial = gap_tuples(name, INTRADAY, str(DAY), 1, "partial")
        found = one.gaps()
        assert as_tuples(found) == partial
        assert read == found == one.read_gaps()
        assert {(g.explained, g.attempts, g.next_attempt_at) for g in found} == {
            (False, 1, SATURDAY + timedelta(minutes=2))
        }
        requested = []
        for minutes in (1, 1, 3, 1):
            one.clock.advance(minutes=minutes)
            before = len(one.vendor.requests)
            await one.fetch()
            read = one.read_gaps()
            one.judge()
            assert one.gaps() == read
            requested.append(len(one.vendor.requests) - before)
            assert as_tuples(one.gaps()) == (partial if one.clock.now < healed else set())
        assert requested == [0, 1, 0, 1]
        assert rows(database_url, "select bars from session_answers where timeframe = '1m' and session = %s", DAY) == [
            (full,)
        ]
        closed = rows(database_url, "select distinct reason, filled_at from backfill_gaps where filled")
        assert closed == [("partial", one.clock.now)]


async def test_a_session_that_stays_thin_is_finally_explained(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "THIN", START) as one:
        vendor_with(one.vendor, Hole(ticker="THIN", first=DAY, last=DAY, base="minute", start="10:00", end="16:00"))
        seen = []
        for _ in range(USUAL.attempts + 2):
            before = len(one.vendor.requests)
            await one.fetch("2024-10-31", "2024-12-13")
            assert [t.session for t in one.judge()] == [DAY]
            seen.append((len(one.vendor.requests) - before, {g.explained for g in one.gaps()}))
            one.clock.advance(hours=1)
        assert seen == [(2, {False}), *[(1, {False})] * (USUAL.attempts - 2), (1, {True}), *[(0, {True})] * 2]
        assert as_tuples(one.gaps()) == gap_tuples("THIN", INTRADAY, str(DAY), 1, "partial")


async def test_half_days_holidays_and_crypto_are_not_thin(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "THIN AAPL", START) as one:
        vendor_with(one.vendor, None)
        coins = one.of(full_market("crypto", "BTC", START))
        for market in (one, coins):
            await market.fetch()
            assert market.judge() == []
            assert market.gaps() == []
        half, full = (
            rows(
                database_url,
                "select bars from session_answers where (symbol, timeframe, session) = (%s, '1m', %s)",
                *k,
            )
            for k in (("THIN", date(2024, 11, 29)), ("THIN", date(2024, 12, 2)))
        )
        assert half[0][0] < 0.8 * full[0][0]


async def test_a_partial_mark_is_removed_once_later_sessions_are_as_short(database_url):
    """The first quiet day of a symbol is unusual only until others follow."""
    async with simulated(
        database_url, datetime(2024, 12, 6, 12, tzinfo=UTC), "stocks", "THIN", "2024-11-18", timeframes="1m 1d"
    ) as one:
        quiet = Hole(
            ticker="THIN", first=date(2024, 12, 5), last=date(2025, 3, 1), base="minute", start="10:00", end="10:50"
        )
        vendor_with(one.vendor, quiet)
        await one.fetch()
        assert [t.session for t in one.judge()] == [date(2024, 12, 5)]
        assert [gap.reason for gap in one.gaps()] == [Reason.PARTIAL]
        one.clock.advance(days=60)
        await one.fetch()
        assert not any(date(2024, 12, 5) in gap.days for gap in one.read_gaps())
        assert date(2024, 12, 5) not in {t.session for t in one.judge()}
        assert not any(date(2024, 12, 5) in gap.days for gap in one.gaps())


async def test_of_few_sessions_a_short_hole_is_not_judged_and_a_long_one_is_found(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "THIN", "2024-12-02", timeframes=ALL) as one:
        short = Hole(ticker="THIN", first=DAY, last=DAY, base="minute", start="10:00", end="10:45")
        vendor_with(one.vendor, short)
        await one.fetch("2024-12-02", "2024-12-06")
        assert one.judge() == []
        names = [s.name for s in one.market.symbols]
        assert judge_minutes(SeriesStore.beside(one.store), names, one.watched().calendar).unjudged == {"THIN": 5}
        monday = date(2024, 12, 9)
        vendor_with(
            one.vendor, Hole(ticker="THIN", first=monday, last=monday, base="minute", start="12:00", end="20:00")
        )
        await one.fetch("2024-12-09", "2024-12-09")
        assert [(t.session, t.because) for t in one.judge()][-1] == (
            monday,
            "no minutes from 12:00 to 20:00",
        )
