from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange, ranges_of
from backfill_assets.domain.gaps import (
    FIRST_ATTEMPT_DELAY,
    MOST_NAMED,
    Gap,
    GapFinder,
    Reason,
    most_missing_sessions,
    repair_command,
    spans_by_symbol,
    unexplained,
)
from backfill_assets.domain.listings import REFRESHED_AFTER, Listing
from backfill_assets.domain.retries import USUAL, Retries
from backfill_assets.domain.sessions import HOURS, Kind, calendar
from backfill_assets.domain.sources import fallbacks
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.unit.domain.test_retries import NOON, RETRIES, TWO_MINUTES, recorded

# Two closed Mondays, a half day, and clocks going forward; the first and the last week are incomplete.
SPAN = DayRange(date(2025, 1, 15), date(2025, 3, 12))
CALENDARS = {kind: calendar(kind, SPAN) for kind in Kind}
STOCKS = GapFinder(CALENDARS[Kind.STOCKS], USUAL)
MON, TUE, WED, THU, FRI, NEXT_MON = (date(2025, 2, d) for d in (3, 4, 5, 6, 7, 10))
SUNDAY = MON - ONE_DAY
LATE = NOON + timedelta(hours=1)


def days(first, last):
    return DayRange(first, last)


def one(finder, timeframe, missing, incomplete):
    """The only gap."""
    (gap,) = finder.gaps("AAPL", timeframe, missing, {a.session: a for a in incomplete})
    return gap


def several(timeframe, missing, incomplete):
    """Return range, reason and `explained` of each gap."""
    found = STOCKS.gaps("AAPL", timeframe, missing, {a.session: a for a in incomplete})
    return [(g.days.start, g.days.end, g.sessions, g.reason, g.explained) for g in found]


# --- Examples


def test_without_missing_days_there_is_no_gap():
    assert STOCKS.gaps("AAPL", MINUTE_1, [], {}) == []


def test_days_without_sessions_are_not_a_gap():
    assert STOCKS.gaps("AAPL", MINUTE_1, [days(FRI + ONE_DAY, NEXT_MON - ONE_DAY)], {}) == []


def test_sessions_of_an_unknown_ticker_are_one_missing_gap_until_the_next_look_up():
    listing = Listing(None, None, unknown_at=NOON)
    confirmed = {TUE: recorded(answers=2, session=TUE)}
    (gap,) = STOCKS.gaps("APPL", DAY_1, [days(MON, FRI)], confirmed, listing)
    assert (gap.sessions, gap.reason, gap.explained) == (5, Reason.MISSING, False)
    assert (gap.next_attempt_at, gap.detail) == (
        NOON + REFRESHED_AFTER,
        listing.sentence("APPL"),
    )


@pytest.mark.parametrize("timeframe", [MINUTE_1, DAY_1, WEEK_1], ids=str)
def test_sessions_before_the_symbol_took_its_ticker_are_explained(timeframe):
    listing = Listing(None, None, ticker_since=WED, earlier="FB")
    before, after = STOCKS.gaps("META", timeframe, [days(MON, FRI)], {}, listing)
    assert (before.days, before.reason, before.explained) == (days(MON, TUE), Reason.EARLIER_TICKER, True)
    assert "formerly: [{ticker: FB, until: 2025-02-04}]" in before.detail
    assert (after.days, after.reason, after.explained) == (days(WED, FRI), Reason.MISSING, False)


def test_a_session_that_was_never_requested_is_due_six_hours_after_its_end():
    gap = one(STOCKS, MINUTE_1, [days(MON, FRI)], [])
    # 20:15 New York is 01:15 UTC
    expected = datetime(2025, 2, 4, 7, 15, tzinfo=UTC)
    week = days(MON, FRI)
    assert gap == Gap("AAPL", "1m", week, 5, Reason.MISSING, explained=False, attempts=0, next_attempt_at=expected)
    assert not gap.due(expected - timedelta(microseconds=1))
    assert gap.due(expected)


def test_a_gap_includes_a_weekend_and_starts_and_ends_with_a_session():
    gap = one(STOCKS, DAY_1, [days(FRI, NEXT_MON), days(NEXT_MON + ONE_DAY, NEXT_MON + ONE_DAY)], [])
    assert (gap.days, gap.sessions) == (days(FRI, NEXT_MON + ONE_DAY), 3)
    padded = one(STOCKS, DAY_1, [days(FRI + ONE_DAY, NEXT_MON)], [])
    assert (padded.days, padded.sessions) == (days(NEXT_MON, NEXT_MON), 1)


def test_a_complete_session_separates_two_gaps():
    found = several(MINUTE_1, [days(MON, TUE), days(THU, THU)], [])
    assert [(first, last) for first, last, *_ in found] == [(MON, TUE), (THU, THU)]


@pytest.mark.parametrize(
    ("known", "reason", "explained"),
    [
        (recorded(MON, answers=0, failures=3), Reason.MISSING, False),
        (recorded(MON, answers=1), Reason.MISSING, False),
        (recorded(MON, answers=4), Reason.MISSING, False),
        (recorded(MON, answers=1, failures=4), Reason.MISSING, False),
        (recorded(MON, answers=2, failures=3), Reason.VENDOR_EMPTY, True),
        (recorded(MON, answers=5), Reason.VENDOR_EMPTY, True),
        (recorded(MON, answers=0, failures=1, refused=True), Reason.NOT_ENTITLED, True),
        (recorded(MON, answers=2, failures=1, refused=True), Reason.NOT_ENTITLED, True),
    ],
)
def test_the_reason_follows_from_the_answers(known, reason, explained):
    assert several(MINUTE_1, [days(MON, MON)], [known]) == [(MON, MON, 1, reason, explained)]


@pytest.mark.parametrize(("answers", "explained"), [(1, False), (5, True)])
def test_a_partial_session_is_a_gap_of_its_timeframe_and_derived_ones(answers, explained):
    known = recorded(TUE, bars=12, answers=answers)
    for name in ("1m", "5m", "4h"):
        assert several(TIMEFRAMES[name], [], [known]) == [(TUE, TUE, 1, Reason.PARTIAL, explained)]


def test_neighbours_with_the_same_reason_are_one_gap_due_with_the_first():
    known = [recorded(MON, answers=2, attempted_at=LATE), recorded(TUE), recorded(WED, answers=0, failures=3)]
    gap = one(STOCKS, MINUTE_1, [days(MON, WED)], known)
    assert (gap.days, gap.reason, gap.attempts) == (days(MON, WED), Reason.MISSING, 3)
    assert gap.next_attempt_at == NOON + TWO_MINUTES


def test_a_session_without_attempts_left_does_not_delay_its_neighbours():
    known = [recorded(MON, answers=1, failures=4), recorded(TUE)]
    gap = one(STOCKS, MINUTE_1, [days(MON, TUE)], known)
    assert (gap.explained, gap.attempts, gap.next_attempt_at) == (False, 5, NOON + TWO_MINUTES)


def test_neighbours_with_different_reasons_are_separate_gaps():
    known = [
        recorded(MON, answers=0, failures=1, refused=True),
        recorded(TUE, answers=5),
        recorded(THU, bars=9, answers=5),
        recorded(FRI, bars=9),
    ]
    assert several(MINUTE_1, [days(MON, WED)], known) == [
        (MON, MON, 1, Reason.NOT_ENTITLED, True),
        (TUE, TUE, 1, Reason.VENDOR_EMPTY, True),
        (WED, WED, 1, Reason.MISSING, False),
        (THU, THU, 1, Reason.PARTIAL, True),
        (FRI, FRI, 1, Reason.PARTIAL, False),
    ]


def test_a_week_waits_for_the_most_urgent_of_its_days():
    failed, empty = recorded(THU, answers=0, failures=1), recorded(TUE, answers=5)
    week = [days(MON, FRI)]
    assert several(WEEK_1, week, [empty]) == [(MON, FRI, 5, Reason.VENDOR_EMPTY, True)]
    assert several(WEEK_1, week, [empty, failed]) == [
        (MON, MON, 1, Reason.MISSING, False),
        (TUE, TUE, 1, Reason.VENDOR_EMPTY, True),
        (WED, FRI, 3, Reason.MISSING, False),
    ]


def test_a_week_is_from_sunday_to_saturday():
    coins = GapFinder(CALENDARS[Kind.CRYPTO], USUAL)
    known = {SUNDAY + 7 * ONE_DAY: recorded(SUNDAY + 7 * ONE_DAY, answers=5)}
    found = coins.gaps("BTC", WEEK_1, [days(SUNDAY, SUNDAY + 13 * ONE_DAY)], known)
    assert [(g.days, g.sessions, g.reason) for g in found] == [
        (days(SUNDAY, SUNDAY + 6 * ONE_DAY), 7, Reason.MISSING),
        (days(SUNDAY + 7 * ONE_DAY, SUNDAY + 13 * ONE_DAY), 7, Reason.VENDOR_EMPTY),
    ]


def test_records_of_days_that_are_not_sessions_are_ignored():
    closed = recorded(date(2025, 2, 17), bars=3)
    assert several(MINUTE_1, [], [closed, recorded(SUNDAY)]) == []


def test_an_explained_gap_is_never_due():
    gap = one(STOCKS, MINUTE_1, [days(MON, MON)], [recorded(MON, answers=5)])
    assert gap.next_attempt_at is None
    assert not gap.due(NOON + timedelta(days=99))
    assert not replace(gap, next_attempt_at=NOON).due(LATE)
    assert not replace(gap, explained=False).due(LATE)


@pytest.mark.parametrize(
    ("waiting", "filled_by", "today", "due"),
    [
        ("yahoo", None, FRI, True),
        ("alpaca", None, FRI, True),
        ("alpaca", "yahoo", FRI, False),  # behind the one that filled it
        ("yahoo", "alpaca", FRI, True),
        ("yahoo", None, FRI + 30 * ONE_DAY, False),  # out of its reach by now
        ("binance_us", None, FRI, False),  # of another market, or no longer named
    ],
)
def test_a_gap_waits_for_those_fallbacks_only_that_are_asked_again(waiting, filled_by, today, due):
    finder = GapFinder(CALENDARS[Kind.STOCKS], USUAL, fallbacks(["yahoo", "alpaca"]), today)
    empty = replace(recorded(MON, answers=5), filled_by=filled_by, fallbacks_due={waiting: LATE})
    gap = one(finder, MINUTE_1, [days(MON, MON)], [empty])
    assert (gap.explained, gap.next_attempt_at) == ((False, LATE) if due else (True, None))


def test_functions_over_gaps():
    base = one(STOCKS, MINUTE_1, [days(MON, TUE)], [])
    later = replace(base, days=days(THU, FRI))
    settled = replace(base, days=days(WED, WED), sessions=1, explained=True)
    other = replace(base, symbol="SPY", timeframe="1d", days=days(WED, FRI), sessions=3)
    gaps = [later, settled, other, base]
    assert unexplained(gaps) == [later, other, base]
    assert spans_by_symbol(gaps) == {"AAPL": days(MON, FRI), "SPY": days(WED, FRI)}
    assert most_missing_sessions(gaps) == 5
    assert spans_by_symbol([]) == {}
    assert most_missing_sessions([]) == 0


# --- Session by session


def one_by_one(finder, symbol, timeframe, missing, incomplete):
    """Find the gaps session by session."""
    found, neighbour = [], None
    for session in finder.calendar.sessions:
        thin = session in incomplete and incomplete[session].bars > 0
        if session < first_expected(finder, timeframe) or not (thin or any(session in r for r in missing)):
            neighbour = None
            continue
        reason, explained, attempts, due = state_of(finder, timeframe, session, incomplete)
        if neighbour and (neighbour["reason"], neighbour["explained"]) == (reason, explained):
            neighbour["days"] = DayRange(neighbour["days"].start, session)
            neighbour["sessions"] += 1
            neighbour["attempts"] = max(neighbour["attempts"], attempts)
            neighbour["next_attempt_at"] = min(filter(None, (neighbour["next_attempt_at"], due)), default=None)
        else:
            neighbour = {
                "symbol": symbol,
                "timeframe": timeframe.name,
                "days": DayRange(session, session),
                "sessions": 1,
                "reason": reason,
                "explained": explained,
                "attempts": attempts,
                "next_attempt_at": due,
            }
            found.append(neighbour)
    return [Gap(**gap) for gap in found]


def first_expected(finder, timeframe):
    """Return the day from which a timeframe is expected: no weekly bar of a week in which the market starts."""
    return finder.calendar.first_week if timeframe == WEEK_1 else date.min


def state_of(finder, timeframe, session, incomplete):
    """Return reason, `explained`, attempts and next attempt of one missing session."""
    if session in incomplete:
        return judged(finder.retries, incomplete[session])
    if timeframe == WEEK_1:
        sunday = session - (session.isoweekday() % 7) * ONE_DAY
        others = [incomplete[sunday + n * ONE_DAY] for n in range(7) if sunday + n * ONE_DAY in incomplete]
        if others:
            return min((judged(finder.retries, a) for a in others), key=lambda s: (s[1], s[0].value))
    hours = HOURS[finder.calendar.kind]
    end = session if hours.closes else session + ONE_DAY
    finished = datetime.combine(end, hours.closes or time(0), hours.zone).astimezone(UTC) + hours.settling
    return Reason.MISSING, False, 0, finished + FIRST_ATTEMPT_DELAY


def judged(retries, answer):
    tries = answer.answers + answer.failures
    exhausted = answer.refused or tries >= retries.attempts
    due = None if exhausted else answer.attempted_at + retries.first_pause * 2 ** max(tries - 1, 0)
    explained = answer.refused or (exhausted and answer.answers >= 2)
    if answer.refused:
        return Reason.NOT_ENTITLED, True, tries, None
    if answer.bars:
        return Reason.PARTIAL, explained, tries, due
    return (Reason.VENDOR_EMPTY if explained else Reason.MISSING), explained, tries, due


# Also outside the span: recorded with an earlier calendar.
NEAR = st.integers(-9, len(SPAN) + 9).map(lambda n: SPAN.start + n * ONE_DAY)
ATTEMPTED = st.fixed_dictionaries(
    {
        "bars": st.sampled_from([0, 0, 0, 7]),
        "answers": st.integers(0, 6),
        "failures": st.integers(0, 3),
        "attempted_at": st.integers(0, 9).map(lambda h: NOON + timedelta(hours=h)),
    }
)


@st.composite
def records(draw):
    """Records of incomplete sessions."""
    found = {}
    for day, counts in draw(st.dictionaries(NEAR, ATTEMPTED, max_size=25)).items():
        found[day] = recorded(day, refused=not counts["bars"] and draw(st.booleans()), **counts)
    return found


# Both ends may cut off sessions: a market that starts later, and unfinished days.
FINDERS = st.builds(
    lambda kind, first, last, retries: GapFinder(
        replace(CALENDARS[kind], sessions=CALENDARS[kind].sessions[first : len(CALENDARS[kind].sessions) - last]),
        retries,
    ),
    st.sampled_from(Kind),
    st.integers(0, 8),
    st.integers(0, 8),
    RETRIES,
)
SERIES = st.sampled_from([MINUTE_1, TIMEFRAMES["4h"], DAY_1, WEEK_1])


@given(FINDERS, SERIES, st.sets(NEAR), records())
def test_gaps_agree_with_finding_them_session_by_session(finder, timeframe, missing, incomplete):
    ranges = ranges_of(missing)
    expected = one_by_one(finder, "X", timeframe, ranges, incomplete)
    assert finder.gaps("X", timeframe, ranges, incomplete) == expected
    # one range per day gives the same
    assert finder.gaps("X", timeframe, [DayRange(d, d) for d in sorted(missing)], incomplete) == expected


@given(FINDERS, SERIES, st.sets(NEAR), records())
def test_gaps_ascend_and_hold_exactly_the_missing_sessions(finder, timeframe, missing, incomplete):
    found = finder.gaps("X", timeframe, ranges_of(missing), incomplete)
    inside = [session for gap in found for session in finder.calendar.within(gap.days)]
    thin = {day for day, answer in incomplete.items() if answer.bars}
    expected = [s for s in finder.calendar.sessions if s >= first_expected(finder, timeframe)]
    assert inside == [s for s in expected if s in missing or s in thin]
    assert [gap.sessions for gap in found] == [len(finder.calendar.within(gap.days)) for gap in found]
    for gap, after in pairwise(found):
        assert gap.days.end < after.days.start
        between = finder.calendar.within(DayRange(gap.days.end, after.days.start))
        assert len(between) > 2 or (gap.reason, gap.explained) != (after.reason, after.explained)
    for gap in found:
        assert {gap.days.start, gap.days.end} <= set(finder.calendar.sessions)


@given(FINDERS, st.sets(NEAR), records(), st.integers(0, 2000).map(lambda h: NOON + timedelta(hours=h)))
def test_a_gap_is_due_as_soon_as_one_of_its_sessions_is(finder, missing, incomplete, now):
    for gap in finder.gaps("X", MINUTE_1, ranges_of(missing), incomplete):
        due = False
        for session in finder.calendar.within(gap.days):
            _, explained, _, at = state_of(finder, MINUTE_1, session, incomplete)
            due = due or (not explained and at is not None and at <= now)
        assert gap.due(now) is due


def test_gaps_do_not_depend_on_attempts_and_pauses():
    known = [recorded(MON, answers=5), recorded(TUE, answers=5, bars=9)]
    for retries in (USUAL, Retries(timedelta(hours=1), 9), Retries(attempts=1)):
        found = GapFinder(STOCKS.calendar, retries).gaps(
            "AAPL", MINUTE_1, [days(MON, MON)], {a.session: a for a in known}
        )
        assert sum(gap.sessions for gap in found) == 2


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (0, ""),
        (2, "backfill repair --symbols S0,S1"),
        (MOST_NAMED + 1, "backfill repair --markets stocks,crypto"),
    ],
)
def test_the_repair_command_names_each_symbol_once_or_their_markets(number, command):
    symbols = [f"S{n}" for n in range(number)]
    assert repair_command([*symbols, *symbols], "stocks", "crypto") == command
