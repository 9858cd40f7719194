"""Completeness, measured in real tables after the simulated vendor has left holes."""

from datetime import UTC, date, datetime, timedelta

from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.completeness import Counts, SessionState
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.pipelines.gaps import measure
from backfill_assets.simulator import Hole
from backfill_assets_tests.integration.pipelines.harness import INTRADAY, simulated
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)


def measured(one):
    return measure(one.store, one.watched(), one.clock.now)


def counts(found):
    return {row.symbol: row.counts for row in found.rows}


async def test_missing_partial_explained_and_unlisted_sessions_are_counted_separately(database_url):
    """Fifteen sessions from 15 November: a permanent hole, a thin session, a hole that heals, a late listing."""
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT NVDA SPY", "2024-11-15") as one:
        one.vendor.change(
            holes=(
                Hole(ticker="AAPL", first=date(2024, 11, 19), last=date(2024, 11, 20)),
                Hole(
                    ticker="MSFT",
                    first=date(2024, 12, 4),
                    last=date(2024, 12, 4),
                    base="minute",
                    start="09:45",
                    end="20:00",
                ),
                Hole(
                    ticker="SPY",
                    first=date(2024, 12, 6),
                    last=date(2024, 12, 6),
                    heal_at=SATURDAY + timedelta(minutes=1),
                ),
            ),
            listed={"NVDA": date(2024, 11, 26)},
        )
        before = measured(one)
        assert (len(before.sessions), before.counts) == (15, Counts(missing=60))

        request = one.request()
        await one.look_up(request, await one.fetch_request(request))
        assert counts(measured(one)) == {
            "AAPL": Counts(complete=13, missing=2),
            "MSFT": Counts(complete=14, partial=1),
            "NVDA": Counts(complete=8),
            "SPY": Counts(complete=14, missing=1),
        }
        for minutes in (2, 4, 8, 16, 32):
            one.clock.advance(minutes=minutes)
            await one.fetch()
        found = measured(one)
        assert counts(found) == {
            "AAPL": Counts(complete=13, explained=2),
            "MSFT": Counts(complete=14, explained=1),
            "NVDA": Counts(complete=8),
            "SPY": Counts(complete=15),
        }
    aapl, msft, nvda, _ = found.rows
    of = {series.timeframe: series.counts for series in aapl.series}
    # The market starts on a Friday, and has no bar for that week.
    assert of == {t: Counts(complete=13, explained=2) for t in (*INTRADAY, "1d")} | {"1w": Counts(complete=14)}
    assert {s.timeframe for s in msft.series if s.counts.explained} == set(INTRADAY)
    assert nvda.states.tolist() == [SessionState.NOT_EXPECTED] * 7 + [SessionState.COMPLETE] * 8
    assert not any(row.open_gaps for row in found.rows)


async def test_last_bars_are_those_of_the_table(database_url):
    async with simulated(database_url, SATURDAY, "crypto", "BTC ETH", "2024-12-01") as one:
        assert SeriesStore.beside(one.store).last_bars(["BTC"], TIMEFRAMES.values()) == {}
        await one.fetch()
        found = SeriesStore.beside(one.store).last_bars(["BTC", "ETH"], TIMEFRAMES.values())
        shown = {(s.symbol, s.timeframe): s.last_bar for row in measured(one).rows for s in row.series}
    query = "SELECT symbol, timeframe, MAX(timestamp) FROM market_data GROUP BY 1, 2"
    series_by_series = """SELECT symbol, timeframe, (SELECT MAX(timestamp) FROM market_data m
        WHERE m.symbol = c.symbol AND m.timeframe = c.timeframe) FROM coverage c"""
    for text in (query, series_by_series):
        assert found == shown == {(s, t): at for s, t, at in rows(database_url, text)}
    assert {at.tzinfo for at in found.values()} == {UTC}
    assert found["BTC", "1m"] == datetime(2024, 12, 6, 23, 59, tzinfo=UTC)


async def test_measuring_updates_the_table_of_gaps(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        found = measured(one)
        assert [(str(g.days), g.sessions) for g in found.gaps] == [("2024-12-02 to 2024-12-06", 5)]
        assert rows(database_url, "select sessions, filled from backfill_gaps") == [(5, False)]
        await one.fetch()
        assert measured(one).gaps == []
    assert rows(database_url, "select sessions, filled from backfill_gaps") == [(5, True)]
