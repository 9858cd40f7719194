from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.run_record import GapOutcome, gap_outcomes

FIRST = date(2024, 3, 1)
DUE = datetime(2024, 4, 1, tzinfo=UTC)


def gap(first, last, *, symbol="BTC", timeframe="1d", explained=False):
    """Days of a market that trades every day, by their numbers."""
    days = DayRange(FIRST + timedelta(days=first), FIRST + timedelta(days=last))
    reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
    return Gap(symbol, timeframe, days, len(days), reason, explained, 1, None if explained else DUE)


@pytest.mark.parametrize(
    ("after", "fate", "left"),
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
def test_what_became_of_a_gap(after, fate, left):
    before = gap(2, 5)
    (record,) = gap_outcomes([before], after)
    assert (record.gap, record.fate, record.sessions_left) == (before, fate, left)


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
def test_days_that_are_left_are_counted_and_the_others_filled(missing, left):
    left &= missing
    records = gap_outcomes(gaps_over(missing), gaps_over(left))
    assert sum(r.sessions_left for r in records) == len(left)
    assert sum(r.gap.sessions for r in records) == len(missing)
    assert all((r.fate is GapOutcome.FILLED) == (r.sessions_left == 0) for r in records)
