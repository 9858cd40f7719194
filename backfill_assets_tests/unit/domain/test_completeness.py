"""Completeness, compared with a count session by session."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.completeness import Counts, SessionState, completeness, session_states
from backfill_assets.domain.days import DayRange, runs_of
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets_tests.support import market, trading_calendar

SESSIONS = trading_calendar().within(DayRange(date(2024, 11, 18), date(2025, 1, 17)))
NOW = datetime(2025, 1, 18, 12, tzinfo=UTC)
NAMES = ("AAPL", "MSFT", "NVDA")
TIMEFRAMES = ("1m", "5m", "1d")
KEPT = market("stocks", *NAMES, start=SESSIONS[0], timeframes=" ".join(TIMEFRAMES))
SERIES = [(symbol, timeframe) for symbol in NAMES for timeframe in TIMEFRAMES]

INCOMPLETE = {
    SessionState.MISSING: (Reason.MISSING, False),
    SessionState.PARTIAL: (Reason.PARTIAL, False),
    SessionState.EXPLAINED: (Reason.VENDOR_EMPTY, True),
    SessionState.FALLBACK: (Reason.FALLBACK, True),
}
listings = st.builds(Listing, st.none() | st.sampled_from(SESSIONS), st.none() | st.sampled_from(SESSIONS))
incomplete = st.dictionaries(st.sampled_from(SESSIONS), st.sampled_from(list(INCOMPLETE)))


def gap(symbol, timeframe, days, reason=Reason.MISSING, *, explained=False, due=NOW):
    sessions = sum(day in days for day in SESSIONS)
    return Gap(symbol, timeframe, days, sessions, reason, explained, 1, None if explained else due)


def gaps_of(series, standing_by_day):
    """Gaps: consecutive sessions in the same state as one."""
    return [
        gap(*series, days, reason, explained=explained)
        for state, (reason, explained) in INCOMPLETE.items()
        for days in runs_of([d for d, s in standing_by_day.items() if s is state], SESSIONS)
    ]


@given(st.fixed_dictionaries(dict.fromkeys(SERIES, incomplete)), st.dictionaries(st.sampled_from(NAMES), listings))
def test_every_session_of_every_series_is_counted_once(lacking_of, listed):
    def plainly(symbol, timeframe, day):
        own = lacking_of[symbol, timeframe]
        expected = listed.get(symbol, UNKNOWN).expects(day)
        return own.get(day, SessionState.COMPLETE if expected else SessionState.NOT_EXPECTED)

    gaps = [g for series, of in lacking_of.items() for g in gaps_of(series, of)]
    found = completeness(KEPT, SESSIONS, listed, gaps, {}, NOW)

    assert [row.symbol for row in found.rows] == list(NAMES)
    for row in found.rows:
        for series in row.series:
            count = Counter(plainly(row.symbol, series.timeframe, day) for day in SESSIONS)
            assert series.counts == Counts(**{state.name.lower(): count[state] for state in list(SessionState)[1:]})
            assert sum(g.sessions for g in series.gaps) == series.counts.expected - series.counts.complete
        worst = [max(plainly(row.symbol, t, day) for t in TIMEFRAMES) for day in SESSIONS]
        assert row.states.tolist() == worst
        assert row.counts.expected == len(SESSIONS) - worst.count(SessionState.NOT_EXPECTED)
    assert sorted(found.gaps) == sorted(gaps)
    assert found.counts == sum((row.counts for row in found.rows), Counts())


@given(st.lists(st.sampled_from(list(SessionState))))
def test_worst_is_the_state_of_the_worst_session(states):
    counts = Counts.of(np.array(states, np.int8))
    assert counts.worst == max(states, default=SessionState.NOT_EXPECTED)
    assert (counts.share == 1) is (counts.worst <= SessionState.COMPLETE)
    assert counts.expected == len([s for s in states if s])


def test_a_gap_is_expected_even_outside_the_listing():
    days = DayRange(SESSIONS[0], SESSIONS[1])
    found = session_states(SESSIONS, Listing(SESSIONS[5], None), [gap("AAPL", "1d", days)])
    assert found[:6].tolist() == [SessionState.MISSING] * 2 + [SessionState.NOT_EXPECTED] * 3 + [SessionState.COMPLETE]


@pytest.mark.parametrize(
    ("reason", "explained", "state"),
    [
        (Reason.MISSING, False, SessionState.MISSING),
        (Reason.PARTIAL, False, SessionState.PARTIAL),
        (Reason.PARTIAL, True, SessionState.EXPLAINED),
        (Reason.VENDOR_EMPTY, True, SessionState.EXPLAINED),
        (Reason.NOT_ENTITLED, True, SessionState.EXPLAINED),
        (Reason.FALLBACK, True, SessionState.FALLBACK),
        (Reason.FALLBACK, False, SessionState.FALLBACK),
    ],
)
def test_the_state_of_a_gap(reason, explained, state):
    days = DayRange(SESSIONS[2], SESSIONS[2])
    found = session_states(SESSIONS, UNKNOWN, [gap("AAPL", "1d", days, reason, explained=explained)])
    assert found.tolist() == [state if i == 2 else SessionState.COMPLETE for i in range(len(SESSIONS))]


def test_last_bar_and_next_attempt_of_all_timeframes():
    early, late = NOW + timedelta(minutes=2), NOW + timedelta(minutes=8)
    days = DayRange(SESSIONS[2], SESSIONS[2])
    gaps = [
        gap("AAPL", "1m", days, due=late),
        gap("AAPL", "1d", days, due=early),
        gap("MSFT", "1m", days, due=None),
        gap("NVDA", "1m", days, Reason.VENDOR_EMPTY, explained=True),
    ]
    last_bars = {("AAPL", "1m"): NOW, ("AAPL", "1d"): NOW - timedelta(hours=12), ("MSFT", "5m"): NOW}
    aapl, msft, nvda = completeness(KEPT, SESSIONS, {}, gaps, last_bars, NOW).rows
    assert (aapl.next_attempt_at, len(aapl.open_gaps), aapl.last_bar) == (early, 2, NOW)
    assert (msft.next_attempt_at, len(msft.open_gaps), msft.last_bar) == (None, 1, NOW)
    assert (nvda.next_attempt_at, len(nvda.open_gaps), nvda.last_bar) == (None, 0, None)


def test_before_the_first_session_nothing_is_expected():
    found = completeness(KEPT, (), {}, [], {}, NOW)
    assert (found.counts, found.counts.share, found.counts.worst) == (Counts(), 1.0, SessionState.NOT_EXPECTED)
