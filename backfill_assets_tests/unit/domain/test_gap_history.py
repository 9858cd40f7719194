import sys
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.gap_history import Change, KnownGap, OpenGap, reconcile
from backfill_assets.domain.gaps import Gap, GapFinder, Reason
from backfill_assets.domain.listings import Listing
from backfill_assets.domain.retries import USUAL
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.domain.timeframes import MINUTE_1, WEEK_1
from backfill_assets_tests.unit.domain.test_retries import NOON, recorded

TRADING = calendar(Kind.STOCKS, DayRange(date(2025, 1, 27), date(2025, 2, 21)))  # closed on Monday the 17th
MON, TUE, WED, THU, FRI = (date(2025, 2, d) for d in range(3, 8))
HOUR = timedelta(hours=1)


def missing(first, last, *, symbol="AAPL", timeframe="1m", reason=Reason.MISSING, explained=False, attempts=1):
    """A gap with its number of sessions."""
    span = DayRange(first, last)
    due = None if explained else NOON
    return Gap(symbol, timeframe, span, len(TRADING.within(span)), reason, explained, attempts, due)


def changed(known, found, *, trading=TRADING, listings=None, now=NOON):
    """Reconcile with gaps known for an hour, numbered from 1."""
    rows = [KnownGap(number, gap, NOON - HOUR) for number, gap in enumerate(known, 1)]
    return reconcile(rows, found, trading, listings or {}, now)


def closed(gap, **changes):
    return OpenGap(replace(gap, next_attempt_at=None, **changes), NOON - HOUR)


# --- Examples


def test_a_new_gap_is_first_seen_now():
    gap = missing(MON, WED)
    assert changed([], [gap]) == Change(opened=(OpenGap(gap, NOON),))


def test_a_gap_that_is_not_found_is_closed():
    gap = missing(MON, WED)
    assert changed([gap], []) == Change(gone=(1,), closed=(closed(gap),))


def test_a_shrunk_gap_closes_its_ends_and_keeps_its_age():
    gap, rest = missing(MON, FRI), missing(TUE, WED)
    change = changed([gap], [rest])
    assert change.gone == (1,)
    assert change.closed == (
        closed(gap, days=DayRange(MON, MON), sessions=1),
        closed(gap, days=DayRange(THU, FRI), sessions=2),
    )
    assert change.opened == (OpenGap(rest, NOON - HOUR),)


def test_a_divided_gap_closes_its_middle():
    gap = missing(MON, FRI)
    change = changed([gap], [missing(MON, TUE), missing(FRI, FRI)])
    assert change.closed == (closed(gap, days=DayRange(WED, THU), sessions=2),)
    assert [o.first_seen for o in change.opened] == [NOON - HOUR] * 2


def test_a_grown_gap_closes_nothing_and_keeps_its_age():
    change = changed([missing(TUE, TUE)], [grown := missing(MON, THU)])
    assert change == Change(gone=(1,), opened=(OpenGap(grown, NOON - HOUR),))


def test_another_attempt_or_reason_closes_nothing_and_keeps_the_age():
    for after in (missing(MON, TUE, attempts=2), missing(MON, TUE, reason=Reason.VENDOR_EMPTY, explained=True)):
        assert changed([missing(MON, TUE)], [after]) == Change(gone=(1,), opened=(OpenGap(after, NOON - HOUR),))


def test_joined_gaps_are_as_old_as_the_oldest():
    rows = [KnownGap(1, missing(MON, MON), NOON - HOUR), KnownGap(2, missing(WED, WED), NOON - 9 * HOUR)]
    change = reconcile(rows, [joined := missing(MON, WED)], TRADING, {}, NOON)
    assert change == Change(gone=(1, 2), opened=(OpenGap(joined, NOON - 9 * HOUR),))


def test_sessions_outside_the_listing_are_closed_for_that_reason():
    gap = missing(MON, FRI)
    listing = {"AAPL": Listing(TUE, WED)}
    assert changed([gap], [missing(TUE, TUE)], listings=listing).closed == (
        closed(gap, days=DayRange(MON, MON), sessions=1, reason=Reason.PRE_LISTING),
        closed(gap, days=DayRange(WED, WED), sessions=1),
        closed(gap, days=DayRange(THU, FRI), sessions=2, reason=Reason.DELISTED),
    )
    assert changed([gap], [], listings={"SPY": Listing(FRI, None)}).closed == (closed(gap),)


def test_days_that_are_no_longer_sessions_are_dropped():
    gap = missing(MON, WED)
    shut = replace(TRADING, sessions=tuple(s for s in TRADING.sessions if s != TUE))
    assert changed([gap], [], trading=shut) == Change(gone=(1,), closed=(closed(gap, sessions=2),))
    none = replace(TRADING, sessions=())
    assert changed([gap], [], trading=none) == Change(gone=(1,))


def test_overlapping_gaps_are_all_compared():
    rows = [KnownGap(1, missing(MON, FRI), NOON - HOUR), KnownGap(2, missing(TUE, TUE), NOON - 9 * HOUR)]
    change = reconcile(rows, [last := missing(FRI, FRI), first := missing(TUE, WED)], TRADING, {}, NOON)
    assert change.opened == (OpenGap(last, NOON - HOUR), OpenGap(first, NOON - 9 * HOUR))
    assert [c.gap.days for c in change.closed] == [DayRange(MON, MON), DayRange(THU, THU)]


# --- Cost


def steps(work):
    """Count the executed lines and branches of Python, which do not depend on the machine."""
    tool, taken = sys.monitoring.PROFILER_ID, 0

    def count_one(*_):
        nonlocal taken
        taken += 1

    sys.monitoring.use_tool_id(tool, "steps")
    try:
        sys.monitoring.register_callback(tool, sys.monitoring.events.LINE, count_one)
        sys.monitoring.register_callback(tool, sys.monitoring.events.JUMP, count_one)
        sys.monitoring.set_events(tool, sys.monitoring.events.LINE | sys.monitoring.events.JUMP)
        work()
    finally:
        sys.monitoring.set_events(tool, sys.monitoring.events.NO_EVENTS)  # otherwise it slows down everything after
        sys.monitoring.free_tool_id(tool)
    return taken


LONG = calendar(Kind.CRYPTO, DayRange(date(2020, 1, 1), date(2025, 12, 31)))


def every_third(number, *, days):
    """A number of gaps of one series, each of `days` days, every third day."""
    starts = (LONG.span.start + 3 * n * ONE_DAY for n in range(number))
    return [replace(missing(TUE, TUE), days=DayRange(d, d + (days - 1) * ONE_DAY), sessions=days) for d in starts]


@pytest.mark.parametrize(
    "found",
    [
        lambda number: every_third(number, days=1),  # each has shrunk
        lambda _: [],  # each was filled
        lambda number: [
            replace(missing(TUE, TUE), days=DayRange(LONG.span.start, LONG.span.start + 3 * number * ONE_DAY))
        ],
    ],
    ids=["shrunk", "filled", "grown together"],
)
def test_the_cost_is_linear_in_the_changed_gaps_of_a_series(found):
    def cost(number):
        rows = [KnownGap(n, gap, NOON - HOUR) for n, gap in enumerate(every_third(number, days=2))]
        now_found = found(number)
        return steps(lambda: reconcile(rows, now_found, LONG, {}, NOON))

    assert cost(640) < 4.4 * cost(160)


# --- Random histories

SYMBOLS = ("AAPL", "SPY")
NEAR = st.integers(0, len(TRADING.span) - 1).map(lambda n: TRADING.span.start + n * ONE_DAY)
ATTEMPTS = st.fixed_dictionaries(
    {"bars": st.sampled_from([0, 0, 7]), "answers": st.sampled_from([0, 1, 5]), "failures": st.integers(0, 1)}
)


@st.composite
def markets(draw):
    """A market at one time: its sessions, listings and gaps."""
    closures = draw(st.sets(st.sampled_from(TRADING.sessions), max_size=2))
    newest = draw(st.sampled_from(TRADING.sessions[5:]))
    trading = replace(TRADING, sessions=tuple(s for s in TRADING.sessions if s not in closures and s <= newest))
    finder = GapFinder(trading, USUAL)
    listings, found = {}, []
    for symbol in SYMBOLS:
        if draw(st.booleans()):
            listings[symbol] = Listing(draw(st.none() | NEAR), draw(st.none() | NEAR))
        expected = [s for s in trading.sessions if listings.get(symbol, Listing(None, None)).expects(s)]
        for timeframe in (MINUTE_1, WEEK_1):
            missing_days = sorted(draw(st.sets(st.sampled_from(expected)))) if expected else []
            incomplete = {}
            if expected:
                for day, counts in draw(st.dictionaries(st.sampled_from(expected), ATTEMPTS, max_size=8)).items():
                    incomplete[day] = recorded(day, **counts)
            found += finder.gaps(symbol, timeframe, [DayRange(d, d) for d in missing_days], incomplete)
    return trading, listings, found


class Table:
    """backfill_gaps, as a list."""

    def __init__(self):
        self._ids, self.open, self.filled = count(1), {}, []

    def apply(self, change):
        for number in change.gone:
            del self.open[number]
        self.filled += change.closed
        for row in change.opened:
            number = next(self._ids)
            self.open[number] = KnownGap(number, row.gap, row.first_seen)

    def known(self):
        return list(self.open.values())

    def seen(self, trading):
        """When each open session was first seen as missing."""
        return {
            (k.gap.symbol, k.gap.timeframe, session): k.first_seen
            for k in self.known()
            for session in trading.within(k.gap.days)
        }


def sessions_of(rows, trading):
    return Counter((r.gap.symbol, r.gap.timeframe, s) for r in rows for s in trading.within(r.gap.days))


LOOKS = st.lists(st.tuples(markets(), st.integers(0, 40)), min_size=1, max_size=5)


@settings(max_examples=60)
@given(LOOKS)
def test_the_table_has_the_last_findings_and_loses_no_session(looks):
    table, now, latest = Table(), NOON, NOON
    for (trading, listings, found), hours in looks:
        now += hours * HOUR
        latest = max(latest, now)
        before, seen = table.known(), table.seen(trading)
        change = reconcile(before, found, trading, listings, now)
        table.apply(change)

        assert Counter(k.gap for k in table.known()) == Counter(found)
        still = table.seen(trading)
        gone = {key for key in seen if key not in still}
        assert sessions_of(change.closed, trading) == Counter(gone), "each session that is gone, once, and no other"
        assert sum(r.gap.sessions for r in change.closed) == len(gone)
        for key, since in still.items():
            assert since <= latest
            assert since <= seen.get(key, now), "nothing is younger than it was known to be"
        for row in change.closed:
            assert row.gap.next_attempt_at is None
            assert {row.gap.days.start, row.gap.days.end} <= set(trading.sessions)

        assert not reconcile(table.known(), found, trading, listings, now + HOUR)


@settings(max_examples=60)
@given(LOOKS)
def test_closed_gaps_have_their_reason_and_age(looks):
    table, now = Table(), NOON
    for (trading, listings, found), hours in looks:
        now += abs(hours) * HOUR
        before = table.known()
        change = reconcile(before, found, trading, listings, now)
        for row in change.closed:
            own = (row.gap.symbol, row.gap.timeframe)
            (origin,) = [
                k for k in before if (k.gap.symbol, k.gap.timeframe) == own and row.gap.days.intersect(k.gap.days)
            ]
            assert origin.first_seen == row.first_seen
            listing = listings.get(row.gap.symbol, Listing(None, None))
            for session in trading.within(row.gap.days):
                excluded = row.gap.reason in {Reason.PRE_LISTING, Reason.DELISTED}
                assert listing.expects(session) is not excluded
                assert excluded or row.gap.reason is origin.gap.reason
        table.apply(change)


@settings(max_examples=60)
@given(markets(), markets())
def test_the_order_of_gaps_does_not_matter(first, second):
    table = Table()
    table.apply(reconcile([], first[2], first[0], first[1], NOON))
    trading, listings, found = second
    one = reconcile(table.known(), found, trading, listings, NOON)
    other = reconcile(table.known()[::-1], found[::-1], trading, listings, NOON)
    assert set(one.gone) == set(other.gone)
    assert set(one.closed) == set(other.closed)
    assert set(one.opened) == set(other.opened)
