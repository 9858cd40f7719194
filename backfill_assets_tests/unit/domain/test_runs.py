from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.runs import EndedRun, GapOutcome, failed_days, gap_outcomes, unresolved_failure

FIRST = date(2024, 3, 1)
DUE = datetime(2024, 4, 1, tzinfo=UTC)


def gap(first, last, *, symbol="BTC", timeframe="1d", explained=False):
    """A gap of a market that trades every day, by day numbers."""
    days = DayRange(FIRST + timedelta(days=first), FIRST + timedelta(days=last))
    reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
    return Gap(symbol, timeframe, days, len(days), reason, explained, 1, None if explained else DUE)


@pytest.mark.parametrize(
    ("after", "outcome", "left"),
    [
        ([], GapOutcome.FILLED, 0),
        ([gap(9, 12)], GapOutcome.FILLED, 0),
        ([gap(2, 5, symbol="ETH")], GapOutcome.FILLED, 0),
        ([gap(2, 5, timeframe="1m")], GapOutcome.FILLED, 0),
        ([gap(2, 3)], GapOutcome.PARTLY_FILLED, 2),
        ([gap(2, 2), gap(4, 5, explained=True)], GapOutcome.PARTLY_FILLED, 3),
        ([gap(2, 5)], GapOutcome.STILL_OPEN, 4),
        ([gap(2, 3), gap(4, 5, explained=True)], GapOutcome.STILL_OPEN, 4),
        ([gap(2, 5, explained=True)], GapOutcome.EXPLAINED, 4),
        ([gap(0, 7)], GapOutcome.STILL_OPEN, 4),
    ],
)
def test_outcome_of_a_gap(after, outcome, left):
    before = gap(2, 5)
    (record,) = gap_outcomes([before], after)
    assert (record.gap, record.outcome, record.sessions_left) == (before, outcome, left)


days = st.sets(st.integers(0, 30))


def gaps_over(numbers):
    found, ordered = [], sorted(numbers)
    while ordered:
        first = last = ordered.pop(0)
        while ordered and ordered[0] == last + 1:
            last = ordered.pop(0)
        found.append(gap(first, last))
    return found


@given(days, days)
def test_remaining_days_are_counted_and_the_others_filled(missing, left):
    left &= missing
    records = gap_outcomes(gaps_over(missing), gaps_over(left))
    assert sum(r.sessions_left for r in records) == len(left)
    assert sum(r.gap.sessions for r in records) == len(missing)
    assert all((r.outcome is GapOutcome.FILLED) == (r.sessions_left == 0) for r in records)


DAY = datetime(2025, 6, 2, 2, tzinfo=UTC)


def run(number, start, end, *, succeeded=False, day=0):
    at = DAY + timedelta(days=day)
    return EndedRun(f"r{number}", succeeded, at + timedelta(minutes=start), at + timedelta(minutes=end))


def never(_):
    return False


def name(found):
    return found and found.run


def test_a_failure_is_resolved_by_a_success_that_started_after_it():
    failed = run(1, 0, 10)
    assert unresolved_failure([], never) is None
    assert name(unresolved_failure([failed], never)) == "r1"
    assert (
        name(unresolved_failure([failed, run(2, 5, 20, succeeded=True)], never)) == "r1"
    )  # its neighbour in a backfill
    assert unresolved_failure([failed, run(2, 10, 20, succeeded=True)], never) is None
    assert name(unresolved_failure([run(2, 10, 20, succeeded=True), failed, run(3, 21, 22)], never)) == "r3"
    assert unresolved_failure([failed, run(0, 10, 10, succeeded=True)], never) is None  # within the clock's resolution


def test_a_harmless_failure_resolves_earlier_failures():
    crash, harmless = run(1, 0, 10), run(2, 11, 20)
    assert unresolved_failure([crash, harmless], lambda r: r.run == "r2") is None
    assert name(unresolved_failure([harmless], never)) == "r2"
    assert name(unresolved_failure([crash, run(2, 5, 20)], lambda r: r.run == "r2")) == "r1"


def test_harmless_is_called_only_for_possible_results():
    called = []
    runs = [run(n, n * 10, n * 10 + 5) for n in range(50)] + [run(99, 600, 610, succeeded=True)]
    assert unresolved_failure(runs, lambda r: bool(called.append(r))) is None
    assert called == []


RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10), st.booleans()), max_size=12)


@given(RUNS, st.randoms())
def test_the_result_follows_the_definition_in_any_order(found, random):
    runs = [run(n, start, start + length, succeeded=good) for n, (start, length, good) in enumerate(found)]
    unresolved = [
        r for r in runs if not r.succeeded and not any(o.succeeded and o.started_at >= r.ended_at for o in runs)
    ]
    expected = max(unresolved, key=lambda r: (r.ended_at, r.run), default=None)
    random.shuffle(runs)
    assert unresolved_failure(runs, never) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("", 0),
        ("+", 0),
        ("-", 1),
        ("+--", 2),
        ("---", 3),
        ("--+", 0),
        ("-+--", 2),
        ("--.. -".replace(" ", ""), 3),  # a weekend without runs
    ],
)
def test_failed_days_are_counted_back_from_the_latest(outcomes, expected):
    runs = [run(n, 0, 10, succeeded=o == "+", day=n) for n, o in enumerate(outcomes) if o != "."]
    found = failed_days(runs)
    assert len(found) == expected
    assert list(found) == sorted(found)


def test_one_success_is_enough_for_a_day():
    runs = [run(1, 0, 1), run(2, 5, 6, succeeded=True), run(3, 7, 8), run(4, 0, 1, day=1)]
    assert failed_days(runs) == (date(2025, 6, 3),)
