"""The examination of a market's bars."""

from datetime import UTC, date, datetime, timedelta

import psycopg

from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import FIRST_ATTEMPT_DELAY
from backfill_assets.domain.listings import Listing
from backfill_assets.pipelines.health import RECENT, examine
from backfill_assets.simulator import Hole
from backfill_assets_tests.integration.pipelines.harness import ALL, as_tuples, gap_tuples, simulated
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
FRIDAY = date(2024, 12, 6)


def health(one, days=None):
    return examine(one.store, one.watched(), one.clock.now, days)


async def test_a_complete_market_has_no_findings(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-11-25") as one:
        await one.fetch()
        found = health(one)
        assert (found.gaps, found.minutes.thin, found.examined.invalid, found.outliers) == ((), (), (), ())
        assert (found.newest, found.expected) == (FRIDAY, ("AAPL", "MSFT"))
        assert found.without_newest("1m") == []
        counted = dict(rows(database_url, "select timeframe, count(*) from market_data group by 1"))
        assert found.examined.bars == counted
        assert found.examined.days == (DayRange(date(2024, 11, 25), date(2024, 12, 7)),)


async def test_gaps_thin_sessions_and_invalid_bars_are_found_together(database_url):
    wednesday = date(2024, 12, 4)
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-11-18") as one:
        one.vendor.change(
            holes=(
                Hole(ticker="AAPL", first=FRIDAY, last=FRIDAY),
                Hole(ticker="MSFT", first=wednesday, last=wednesday, base="minute", start="08:00", end="19:00"),
            )
        )
        await one.fetch()
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "update market_data set high = low / 2 where symbol = 'AAPL' and timeframe = '1d' and timestamp = %s",
                [datetime(2024, 12, 3, 5, tzinfo=UTC)],
            )
        found = health(one)
        of_days = [t for t in ALL.split() if t != "1w"]
        partial = gap_tuples("MSFT", of_days[:-1], str(wednesday), 1, "partial")
        assert as_tuples(found.gaps) == gap_tuples("AAPL", of_days, str(FRIDAY), 1, "missing") | partial
        because = "no minutes from 08:00 to 19:00"
        assert [(t.symbol, t.session, t.because) for t in found.minutes.thin] == [("MSFT", wednesday, because)]
        assert {g.detail for g in found.gaps if g.symbol == "MSFT"} == {because}
        (invalid,) = {(i.symbol, i.timeframe, i.rule) for i in found.examined.invalid}
        assert invalid == ("AAPL", "1d", "high is below open, close or low")
        assert [found.without_newest(t) for t in ("1m", "1d", "1w")] == [["AAPL"], ["AAPL"], []]
        marked = rows(database_url, "select symbol, session, partial_because from session_answers where partial")
        assert marked == [("MSFT", wednesday, because)]
        assert rows(database_url, "select count(*) from backfill_gaps where not filled") == [(len(found.gaps),)]


async def test_the_newest_session_is_expected_once_the_nightly_run_has_had_its_time(database_url):
    finished = datetime(2024, 12, 7, 1, 15, tzinfo=UTC)
    async with simulated(
        database_url,
        finished + FIRST_ATTEMPT_DELAY - timedelta(seconds=1),
        "stocks",
        "AAPL",
        "2024-12-02",
        timeframes="1d",
    ) as one:
        await one.fetch("2024-12-02", "2024-12-05")
        found = health(one)
        assert (found.newest, found.without_newest("1d")) == (date(2024, 12, 5), [])
        assert [str(gap.days) for gap in found.gaps] == ["2024-12-06"], "it is a gap nevertheless"
        one.clock.advance(seconds=1)
        found = health(one)
        assert (found.newest, found.without_newest("1d")) == (FRIDAY, ["AAPL"])


async def test_sessions_that_are_explained_or_outside_the_listing_are_not_expected(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02", timeframes="1d") as one:
        last = date(2024, 12, 3)
        one.vendor.change(holes=(Hole(ticker="AAPL", first=FRIDAY, last=FRIDAY),), delisted={"MSFT": last})
        ListingStore.beside(one.store).record("MSFT", Listing(None, last), one.clock.now)
        for _ in range(5):
            await one.fetch()
            found = health(one)
            one.clock.advance(minutes=32)
        assert [(gap.symbol, gap.explained) for gap in found.gaps] == [("AAPL", True)]
        assert (found.expected, found.without_newest("1d")) == (("AAPL",), [])


async def test_before_the_first_session_nothing_is_expected(database_url):
    async with simulated(database_url, datetime(2024, 12, 2, 12, tzinfo=UTC), "stocks", "AAPL", "2024-12-02") as one:
        found = health(one)
        assert (found.gaps, found.newest, found.expected) == ((), None, ())
        assert found.examined.days == (DayRange(date(2024, 12, 2), date(2024, 12, 2)),)


async def test_bars_of_the_last_five_weeks_and_the_given_days_are_examined_once(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-09-03", timeframes="1d") as one:
        await one.fetch()
        recent = DayRange(date(2024, 12, 7) - RECENT, date(2024, 12, 7))
        alone = health(one).examined
        assert alone.days == (recent,)
        named = DayRange(date(2024, 9, 3), date(2024, 9, 6))
        found = health(one, named).examined
        assert (found.days, found.bars) == ((named, recent), {"1d": alone.bars["1d"] + 4})
        overlapping = health(one, DayRange(date(2024, 11, 1), FRIDAY)).examined
        assert overlapping.days == (DayRange(date(2024, 11, 1), date(2024, 12, 7)),)
        assert overlapping.bars == {"1d": alone.bars["1d"] + 1}, "the Friday before the recent days"


async def test_the_weeks_of_the_given_days_are_examined_too(database_url):
    """The bar of a week is stamped with the Sunday before the days that a nightly run names."""
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-09-03", timeframes="1d 1w") as one:
        await one.fetch()
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "update market_data set close = 2 * high where timeframe = '1w' and timestamp < '2024-10-01'"
            )
        alone = health(one).examined
        found = health(one, DayRange(date(2024, 9, 4), date(2024, 9, 6))).examined
        assert found.bars == {"1d": alone.bars["1d"] + 3, "1w": alone.bars["1w"] + 1}
        assert alone.invalid == ()
        assert [(i.timeframe, i.bars) for i in found.invalid] == [("1w", 1)]
