"""Which gaps are repaired now, and which wait."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.retries import Retries
from backfill_assets.pipelines.repair import MOST_SYMBOLS, Tried, choose

NOW = datetime(2024, 12, 7, 12, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)
RETRIES = Retries(first_pause=timedelta(minutes=2), attempts=5)


def days(first, last=None):
    return DayRange(date(2024, 12, first), date(2024, 12, last or first))


def gap(symbol, first=2, last=None, *, timeframe="1d", attempts=1, due=NOW, explained=False, sessions=1):
    reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
    return Gap(symbol, timeframe, days(first, last), sessions, reason, explained, attempts, due)


def chosen(*gaps, now=NOW, busy=None, tried=None):
    return choose(gaps, now, busy or {}, tried or {}, RETRIES)


def test_a_symbol_is_repaired_from_its_first_due_session_to_its_last():
    choice = chosen(gap("AAPL", 2), gap("AAPL", 4, 5, timeframe="1m"), gap("MSFT", 3))
    assert choice.repairs == {"AAPL": days(2, 5), "MSFT": days(3)}
    assert choice.waiting == ()


def test_a_gap_that_is_not_due_waits_until_its_next_attempt():
    later, much_later = NOW + A_MINUTE, NOW + 5 * A_MINUTE
    choice = chosen(gap("AAPL", 2), gap("AAPL", 6, due=much_later), gap("MSFT", 3, due=later))
    assert choice.repairs == {"AAPL": days(2)}
    assert choice.waiting == ("next attempt at 2024-12-07 12:01:00 UTC",)


def test_the_next_attempt_is_shown_in_utc():
    in_new_york = (NOW + A_MINUTE).astimezone(ZoneInfo("America/New_York"))
    assert chosen(gap("AAPL", due=in_new_york)).waiting == ("next attempt at 2024-12-07 12:01:00 UTC",)


def test_explained_gaps_are_neither_repaired_nor_reported():
    choice = chosen(gap("AAPL", explained=True, due=None))
    assert (choice.repairs, choice.waiting) == ({}, ())


def test_only_symbols_whose_days_are_being_fetched_wait():
    busy = {"AAPL": [days(5, 9)], "MSFT": [days(9)]}
    choice = chosen(gap("AAPL", 2), gap("AAPL", 6), gap("MSFT", 2), busy=busy)
    assert choice.repairs == {"MSFT": days(2)}
    assert choice.waiting == ("AAPL: a run over these days is under way",)
    assert set(choice.tried) == {"MSFT"}


def test_at_most_so_many_symbols_are_repaired_at_once_and_the_rest_next():
    names = [f"S{n:02}" for n in range(MOST_SYMBOLS + 3)]
    first = chosen(*map(gap, names))
    assert list(first.repairs) == names[:MOST_SYMBOLS]
    assert first.waiting == ("3 more due symbols wait for the next tick",)
    left = [gap(name) for name in names[MOST_SYMBOLS:]]
    assert list(chosen(*left, tried=first.tried).repairs) == names[MOST_SYMBOLS:]


def test_launches_without_effect_are_repeated_at_doubling_pauses_and_end():
    """A run that ends before its first request is counted only in this memory."""
    launched, memory, now = [], {}, NOW
    while now < NOW + timedelta(hours=3):
        choice = chosen(gap("AAPL"), now=now, tried=memory)
        if choice.repairs:
            launched.append(now)
        memory, now = choice.tried, now + timedelta(seconds=30)
    passed = [(at - NOW) / A_MINUTE for at in launched]
    assert passed == [0, 2, 2 + 4, 2 + 4 + 8, 2 + 4 + 8 + 16]
    assert len(passed) == RETRIES.attempts
    assert choice.waiting == ("AAPL: all attempts are used up; run `backfill repair` to retry",)


@pytest.mark.parametrize(
    "changed",
    [gap("AAPL", attempts=2), gap("AAPL", 2, 3), gap("AAPL", sessions=2)],
    ids=["attempted", "longer", "more sessions"],
)
def test_attempts_are_counted_from_one_again_once_the_gaps_have_changed(changed):
    memory = {"AAPL": Tried(next(iter(chosen(gap("AAPL")).tried.values())).state, RETRIES.attempts, NOW)}
    assert chosen(gap("AAPL"), tried=memory).repairs == {}
    choice = chosen(changed, tried=memory)
    assert set(choice.repairs) == {"AAPL"}
    assert choice.tried["AAPL"].times == 1


def test_the_next_attempt_is_reported_during_the_pause():
    first = chosen(gap("AAPL"))
    second = chosen(gap("AAPL"), now=NOW + A_MINUTE, tried=first.tried)
    assert second.repairs == {}
    assert second.tried == first.tried
    assert second.waiting == ("next attempt at 2024-12-07 12:02:00 UTC",)


def test_a_symbol_without_attempts_left_is_not_repaired():
    choice = chosen(gap("AAPL", attempts=5, due=None), gap("MSFT", attempts=5, due=None), gap("MSFT", 4))
    assert choice.repairs == {"MSFT": days(4)}
    assert choice.waiting == ("AAPL: all attempts are used up; run `backfill repair` to retry",)


def test_of_many_symbols_five_are_named():
    lost = [gap(f"S{n}", attempts=5, due=None) for n in range(7)]
    assert chosen(*lost).waiting[-1].startswith("S0, S1, S2, S3, S4 and 2 more: all attempts are used up")


def test_symbols_without_gaps_are_forgotten():
    first = chosen(gap("AAPL"), gap("MSFT"))
    assert set(chosen(gap("MSFT"), now=NOW + A_MINUTE, tried=first.tried).tried) == {"MSFT"}


symbols = st.sampled_from(["AAPL", "MSFT", "NVDA"])
some_gaps = st.lists(
    st.builds(
        gap,
        symbols,
        st.integers(1, 20),
        st.none(),
        timeframe=st.sampled_from(["1m", "1d"]),
        attempts=st.integers(0, 5),
        due=st.none() | st.integers(-60, 60).map(lambda minutes: NOW + minutes * A_MINUTE),
        explained=st.booleans(),
    ),
    max_size=12,
)
busy_days = st.dictionaries(symbols, st.lists(st.integers(1, 20).map(days), max_size=2))


@given(some_gaps, busy_days)
def test_only_gaps_that_are_due_open_and_not_in_progress_are_repaired(gaps, busy):
    choice = choose(gaps, NOW, busy, {}, RETRIES)
    for symbol, hull in choice.repairs.items():
        due = [g for g in gaps if g.symbol == symbol and g.due(NOW)]
        assert hull == DayRange(min(g.days.start for g in due), max(g.days.end for g in due))
        assert not any(hull.intersect(other) for other in busy.get(symbol, ()))
    for g in gaps:
        if g.due(NOW) and g.symbol not in choice.repairs:
            assert any(g.symbol in sentence for sentence in choice.waiting)


@given(some_gaps, st.integers(0, 119))
def test_a_recent_launch_is_not_repeated_unless_the_gaps_have_changed(gaps, seconds):
    first = choose(gaps, NOW, {}, {}, RETRIES)
    again = choose(gaps, NOW + timedelta(seconds=seconds), {}, first.tried, RETRIES)
    before = {s: t.state for s, t in first.tried.items()}
    assert not [s for s in again.repairs if again.tried[s].state == before.get(s)]
