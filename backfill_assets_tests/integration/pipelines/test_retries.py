"""How often and when a missing session is retried, whatever else runs in between."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.errors import VendorUnavailable
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import USUAL, Retry
from backfill_assets.pipelines.backfill_request import Refresh
from backfill_assets.pipelines.repair import choose
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.pipelines.harness import only_gap, simulated
from backfill_assets_tests.support import SOAK, rows, stored_bars

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
LOST = date(2024, 12, 4)
PERMANENT = Hole(ticker="AAPL", first=LOST, last=LOST)
A_DAY = timedelta(days=1)


def daily(url):
    """Open a market of one symbol and one timeframe, of which a fetch makes one request at most."""
    return simulated(url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d")


def attempts(url):
    """Return the counted answers and failures of the lost session."""
    return rows(url, "select answers, failures from session_answers where session = %s", LOST)[0]


async def sensed(one):
    """Repair gaps as the sensor does."""
    choice = choose(one.gaps(), one.clock.now, {}, {}, USUAL)
    for days in choice.repairs.values():
        await one.fetch(str(days.start), str(days.end))


moments = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.floats(0, 10), st.floats(0, 40)),  # minutes that pass
        st.sampled_from(["run", "sensor", "night"]),
    ),
    min_size=20,
    max_size=30,
)


@settings(max_examples=100 if SOAK else 8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments)
def test_a_lost_day_is_requested_a_fixed_number_of_times_whatever_runs_and_when(database_url, lived):
    requested, reasons = [], []

    async def live():
        async with daily(database_url) as one:
            one.vendor.change(holes=(PERMANENT,))
            for minutes, what in [*lived, *[(60, "run")] * 6]:
                one.clock.advance(minutes=minutes)
                before = len(one.vendor.requests)
                if what == "sensor":
                    await sensed(one)
                elif what == "night":
                    # A nightly run fetches stored days again, none of which is the lost one.
                    await one.fetch("2024-12-05", refresh=Refresh.RESTATEMENTS)
                else:
                    await one.fetch()
                requested.extend(one.clock.now for r in one.vendor.requests[before:] if str(LOST) in _days(r))
                reasons.extend(gap.reason for gap in one.gaps() if LOST in gap.days)

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate market_data, session_answers, coverage, backfill_gaps")
    asyncio.run(live())
    assert len(requested) == USUAL.attempts
    for number, (earlier, later) in enumerate(pairwise(requested), 1):
        assert later - earlier >= USUAL.pause(number)
    assert attempts(database_url) == (USUAL.attempts, 0)
    turn = reasons.index(Reason.VENDOR_EMPTY)
    assert set(reasons[:turn]) == {Reason.MISSING}
    assert set(reasons[turn:]) == {Reason.VENDOR_EMPTY}


def _days(request):
    start, end = request.path.split("/")[-2:]
    day = date.fromisoformat(start)
    return {str(day + n * A_DAY) for n in range((date.fromisoformat(end) - day).days + 1)}


@settings(max_examples=100 if SOAK else 7, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from(list(Retry))), min_size=15, max_size=20))
def test_a_manual_attempt_counts_only_after_the_pause(database_url, lived):
    counted, sent = [], []

    async def live():
        async with daily(database_url) as one:
            one.vendor.change(holes=(PERMANENT,))
            for minutes, retry in [*lived, *[(60, Retry.DUE)] * 6]:
                one.clock.advance(minutes=minutes)
                before, explained = len(one.vendor.requests), _explained(one)
                await one.fetch(retry=retry)
                counted.append((one.clock.now, attempts(database_url)[0]))
                requested = len(one.vendor.requests) > before
                if explained:
                    assert requested == (retry is Retry.EXPLAINED)
                elif retry is not Retry.DUE:
                    assert requested
                sent.append(requested and retry is Retry.DUE)

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate market_data, session_answers, coverage, backfill_gaps")
    asyncio.run(live())
    assert sum(sent) <= USUAL.attempts
    assert counted[-1][1] >= USUAL.attempts
    rising = [later[0] for earlier, later in pairwise([(None, 0), *counted]) if later[1] > earlier[1]]
    assert [b - a >= USUAL.pause(number) for number, (a, b) in enumerate(pairwise(rising), 1)] == [True] * (
        len(rising) - 1
    )


def _explained(one):
    return any(LOST in gap.days and gap.explained for gap in one.gaps())


async def test_nightly_runs_that_refresh_stored_days_do_not_reopen_an_explained_day(database_url):
    async with daily(database_url) as one:
        one.vendor.change(holes=(PERMANENT,))
        for number in range(8):
            await one.fetch(str(LOST), "2024-12-06", refresh=Refresh.RESTATEMENTS)
            one.clock.advance(days=1)
            assert _explained(one) == (number >= USUAL.attempts - 1)
            before = len(one.vendor.requests)
            if _explained(one):
                await one.fetch(str(LOST), "2024-12-06")
                assert len(one.vendor.requests) == before
        one.vendor.change(holes=())
        await one.fetch(str(LOST), "2024-12-06", refresh=Refresh.RESTATEMENTS)
        assert not any(LOST in gap.days for gap in one.gaps())


async def test_attempts_during_an_outage_end_for_the_sensor_but_not_for_runs(database_url):
    async with daily(database_url) as one:
        one.vendor.change(faults=(Fault(kind="status", status=503),))
        (series,) = await one.fetch()
        assert isinstance(series.error, VendorUnavailable)
        seen = []
        for _ in range(3 * USUAL.attempts):
            (gap,) = one.gaps()
            seen.append((gap.attempts, gap.reason, gap.explained))
            one.clock.advance(hours=3)
            await sensed(one)
        assert [s[0] for s in seen] == [*range(1, USUAL.attempts), *[USUAL.attempts] * (2 * USUAL.attempts + 1)]
        assert {s[1:] for s in seen} == {(Reason.MISSING, False)}
        assert len(one.vendor.requests) == 2 * USUAL.attempts, "the client tries twice each time"
        assert only_gap(one.gaps(), "1d").next_attempt_at is None
        for _ in range(2):
            await one.fetch()
        assert len(one.vendor.requests) == 2 * USUAL.attempts + 4
        one.vendor.change(faults=())
        await one.fetch()
        assert one.gaps() == []


async def test_a_day_that_is_empty_after_an_outage_is_retried_until_it_is_explained(database_url):
    async with daily(database_url) as one:
        one.vendor.change(faults=(Fault(kind="status", status=503),), holes=(PERMANENT,))
        for _ in range(USUAL.attempts + 2):
            await one.fetch()
            one.clock.advance(hours=3)
        one.vendor.change(faults=(), holes=(PERMANENT,))
        for _ in range(USUAL.attempts):
            await one.fetch()
            one.clock.advance(hours=3)
        (gap,) = one.gaps()
        assert (gap.reason, gap.explained) == (Reason.VENDOR_EMPTY, True)
        before = len(one.vendor.requests)
        await one.fetch(retry=Retry.NOW)
        assert len(one.vendor.requests) == before


async def test_a_day_that_the_vendor_takes_back_is_removed_an_hour_later(database_url):
    """Four symbols and one day are one grouped request, which then lacks a ticker."""
    day = date(2024, 12, 5)
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT NVDA SPY", f"{day}", timeframes="1d") as one:
        await one.fetch(f"{day}", f"{day}")
        one.vendor.change(holes=(Hole(ticker="AAPL", first=day, last=day),))
        await one.fetch(f"{day}", f"{day}", refresh=Refresh.EVERYTHING)
        assert all("grouped" in r.path for r in one.vendor.requests)
        gap = only_gap([g for g in one.gaps() if g.days.start == day], "1d")
        assert (gap.symbol, gap.reason, gap.next_attempt_at) == ("AAPL", Reason.PARTIAL, SATURDAY + timedelta(hours=1))
        assert gap.detail.startswith("the newer answer has 0 of 1 stored bars")
        sent = len(one.vendor.requests)
        one.clock.advance(minutes=59)
        await one.fetch(f"{day}", f"{day}")
        assert (len(one.vendor.requests), len(stored_bars(database_url, "AAPL", "1d"))) == (sent, 1)
        one.clock.advance(minutes=1)
        series = await one.fetch(f"{day}", f"{day}")
        assert [(s.symbol.name, s.written.removed) for s in series if s.written.removed] == [("AAPL", 1)]
        assert len(stored_bars(database_url, "AAPL", "1d")) == 0
        for _ in range(USUAL.attempts):
            one.clock.advance(hours=1)
            await one.fetch(f"{day}", f"{day}")
        gap = only_gap([g for g in one.gaps() if g.days.start == day], "1d")
        assert (gap.symbol, gap.reason, gap.explained) == ("AAPL", Reason.VENDOR_EMPTY, True)
