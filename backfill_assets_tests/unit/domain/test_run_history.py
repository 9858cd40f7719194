"""Failures that nothing made good, and days without a success."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.run_history import EndedRun, failed_days, unresolved_failure

DAY = datetime(2025, 6, 2, 2, tzinfo=UTC)


def run(number, start, end, *, succeeded=False, day=0):
    at = DAY + timedelta(days=day)
    return EndedRun(f"r{number}", succeeded, at + timedelta(minutes=start), at + timedelta(minutes=end))


def never(_):
    return False


def name(found):
    return found and found.run


def test_a_failure_stands_until_a_run_that_began_after_it_succeeds():
    failed = run(1, 0, 10)
    assert unresolved_failure([], never) is None
    assert name(unresolved_failure([failed], never)) == "r1"
    assert (
        name(unresolved_failure([failed, run(2, 5, 20, succeeded=True)], never)) == "r1"
    )  # its neighbour in a backfill
    assert unresolved_failure([failed, run(2, 10, 20, succeeded=True)], never) is None
    assert name(unresolved_failure([run(2, 10, 20, succeeded=True), failed, run(3, 21, 22)], never)) == "r3"
    assert unresolved_failure([failed, run(0, 10, 10, succeeded=True)], never) is None  # within the clock's step


def test_a_harmless_failure_makes_good_what_came_before_it():
    crash, harmless = run(1, 0, 10), run(2, 11, 20)
    assert unresolved_failure([crash, harmless], lambda r: r.run == "r2") is None
    assert name(unresolved_failure([harmless], never)) == "r2"
    assert name(unresolved_failure([crash, run(2, 5, 20)], lambda r: r.run == "r2")) == "r1"


def test_only_failures_that_matter_are_asked_about():
    asked = []
    runs = [run(n, n * 10, n * 10 + 5) for n in range(50)] + [run(99, 600, 610, succeeded=True)]
    assert unresolved_failure(runs, lambda r: bool(asked.append(r))) is None
    assert asked == []


RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10), st.booleans()), max_size=12)


@given(RUNS, st.randoms())
def test_the_answer_does_not_depend_on_the_order_and_is_the_definition(found, random):
    runs = [run(n, start, start + length, succeeded=good) for n, (start, length, good) in enumerate(found)]
    standing = [
        r for r in runs if not r.succeeded and not any(o.succeeded and o.started_at >= r.ended_at for o in runs)
    ]
    expected = max(standing, key=lambda r: (r.ended_at, r.run), default=None)
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


def test_one_success_makes_a_day_good_whenever_it_came():
    runs = [run(1, 0, 1), run(2, 5, 6, succeeded=True), run(3, 7, 8), run(4, 0, 1, day=1)]
    assert failed_days(runs) == (date(2025, 6, 3),)
