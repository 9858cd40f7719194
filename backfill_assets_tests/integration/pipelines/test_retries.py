"""How often, and when, a session that does not come is asked for: whatever runs in between, it ends."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.errors import VendorUnavailable
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.retries import USUAL, Retry
from backfill_assets.pipelines.backfill_request import Refresh
from backfill_assets.pipelines.repair import choose
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.pipelines.harness import (
    clock_and_vendor,
    full_market,
    only_gap,
    pipeline_harness,
)
from backfill_assets_tests.support import rows

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
LOST = date(2024, 12, 4)
FOR_EVER = Hole(ticker="AAPL", first=LOST, last=LOST)
A_DAY = timedelta(days=1)


@pytest.fixture
def daily():
    """A market of one symbol and one timeframe: a fill is one request at the most."""
    return full_market("stocks", "AAPL", "2024-12-02", timeframes="1d")


def attempts(url):
    """Answers and failures that count, of the session that is lost."""
    return rows(url, "select answers, failures from session_answers where session = %s", LOST)[0]


async def sensed(one):
    """What the sensor does: it looks, chooses, and fills what it has chosen."""
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


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments)
def test_a_lost_day_is_asked_for_so_often_and_no_more_whatever_runs_and_when(database_url, daily, lived):
    asked, reasons = [], []

    async def live():
        with clock_and_vendor(SATURDAY) as (clock, vendor):
            vendor.change(holes=(FOR_EVER,))
            async with pipeline_harness(database_url, vendor, clock, daily) as one:
                for minutes, what in [*lived, *[(60, "run")] * 6]:
                    clock.advance(minutes=minutes)
                    before = len(vendor.requests)
                    if what == "sensor":
                        await sensed(one)
                    elif what == "night":
                        # As far as a night refreshes them, stored days are asked for again: none of them is the lost one.
                        await one.fetch("2024-12-05", refresh=Refresh.RESTATEMENTS)
                    else:
                        await one.fetch()
                    asked.extend(clock.now for r in vendor.requests[before:] if str(LOST) in _days(r))
                    reasons.extend(gap.reason for gap in one.gaps() if LOST in gap.days)

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate market_data, session_answers, coverage, backfill_gaps")
    asyncio.run(live())
    assert len(asked) == USUAL.attempts
    for number, (earlier, later) in enumerate(pairwise(asked), 1):
        assert later - earlier >= USUAL.pause(number)
    assert attempts(database_url) == (USUAL.attempts, 0)
    turn = reasons.index(Reason.VENDOR_EMPTY)
    assert set(reasons[:turn]) == {Reason.MISSING}
    assert set(reasons[turn:]) == {Reason.VENDOR_EMPTY}


def _days(request):
    start, end = request.path.split("/")[-2:]
    day = date.fromisoformat(start)
    return {str(day + n * A_DAY) for n in range((date.fromisoformat(end) - day).days + 1)}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from(list(Retry))), min_size=15, max_size=20))
def test_what_a_person_asks_for_at_once_counts_only_after_its_pause(database_url, daily, lived):
    counted, sent = [], []

    async def live():
        with clock_and_vendor(SATURDAY) as (clock, vendor):
            vendor.change(holes=(FOR_EVER,))
            async with pipeline_harness(database_url, vendor, clock, daily) as one:
                for minutes, retry in [*lived, *[(60, Retry.DUE)] * 6]:
                    clock.advance(minutes=minutes)
                    before, explained = len(vendor.requests), _explained(one)
                    await one.fetch(retry=retry)
                    counted.append((clock.now, attempts(database_url)[0]))
                    asked = len(vendor.requests) > before
                    if explained:
                        assert asked == (retry is Retry.EXPLAINED)
                    elif retry is not Retry.DUE:
                        assert asked
                    sent.append(asked and retry is Retry.DUE)

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


async def test_nights_that_ask_again_for_what_is_stored_do_not_open_an_explained_day(database_url, daily):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(holes=(FOR_EVER,))
        async with pipeline_harness(database_url, vendor, clock, daily) as one:
            for number in range(8):
                await one.fetch(str(LOST), "2024-12-06", refresh=Refresh.RESTATEMENTS)
                clock.advance(days=1)
                assert _explained(one) == (number >= USUAL.attempts - 1)
                before = len(vendor.requests)
                if _explained(one):
                    await one.fetch(str(LOST), "2024-12-06")
                    assert len(vendor.requests) == before
            vendor.change(holes=())
            await one.fetch(str(LOST), "2024-12-06", refresh=Refresh.RESTATEMENTS)
            assert not any(LOST in gap.days for gap in one.gaps())


async def test_a_vendor_that_is_away_counts_and_ends_for_the_sensor_not_for_the_runs(database_url, daily):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(faults=(Fault(kind="status", status=503),))
        async with pipeline_harness(database_url, vendor, clock, daily) as one:
            (series,) = await one.fetch()
            assert isinstance(series.error, VendorUnavailable)
            seen = []
            for _ in range(3 * USUAL.attempts):
                (gap,) = one.gaps()
                seen.append((gap.attempts, gap.reason, gap.explained))
                clock.advance(hours=3)
                await sensed(one)
            assert [s[0] for s in seen] == [*range(1, USUAL.attempts), *[USUAL.attempts] * (2 * USUAL.attempts + 1)]
            assert {s[1:] for s in seen} == {(Reason.MISSING, False)}
            assert len(vendor.requests) == 2 * USUAL.attempts, "the client tries twice each time"
            assert only_gap(one.gaps(), "1d").next_attempt_at is None
            for _ in range(2):
                await one.fetch()
            assert len(vendor.requests) == 2 * USUAL.attempts + 4
            vendor.change(faults=())
            await one.fetch()
            assert one.gaps() == []


async def test_after_an_outage_a_day_that_comes_back_empty_is_still_asked_for_until_it_is_explained(
    database_url, daily
):
    with clock_and_vendor(SATURDAY) as (clock, vendor):
        vendor.change(faults=(Fault(kind="status", status=503),), holes=(FOR_EVER,))
        async with pipeline_harness(database_url, vendor, clock, daily) as one:
            for _ in range(USUAL.attempts + 2):
                await one.fetch()
                clock.advance(hours=3)
            vendor.change(faults=(), holes=(FOR_EVER,))
            for _ in range(USUAL.attempts):
                await one.fetch()
                clock.advance(hours=3)
            (gap,) = one.gaps()
            assert (gap.reason, gap.explained) == (Reason.VENDOR_EMPTY, True)
            before = len(vendor.requests)
            await one.fetch(retry=Retry.NOW)
            assert len(vendor.requests) == before
