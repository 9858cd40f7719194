from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.retries import CONFIRMED_BY, USUAL, Retries, Retry

DAY = date(2025, 6, 3)
NOON = datetime(2025, 6, 4, 12, tzinfo=UTC)
TWO_MINUTES = timedelta(minutes=2)
LATER = st.lists(st.integers(1, 40_000).map(lambda s: timedelta(seconds=s)), min_size=1, max_size=60)
RETRIES = st.builds(Retries, st.integers(1, 600).map(lambda s: timedelta(seconds=s)), st.integers(CONFIRMED_BY, 7))


def recorded(session=DAY, *, bars=0, answers=1, failures=0, refused=False, attempted_at=NOON):
    """Return the record of a session; one with bars is partial."""
    stamp = attempted_at if bars else None
    return SessionAnswer(session, bars, stamp, stamp, answers, failures, refused, bars > 0, attempted_at)


def complete(session=DAY):
    return replace(recorded(session, bars=390), partial=False)


def after_attempt(known, at, retries, *, answered):
    """Return the record after an attempt without bars. It counts once the last pause is over; a counted answer resets the
    failures.
    """
    if known is None:
        return recorded(answers=int(answered), failures=int(not answered), attempted_at=at)
    first_answer = answered and known.answers == 0
    if not first_answer and at < known.attempted_at + retries.pause(known.attempts):
        return known
    return recorded(answers=known.answers + answered, failures=0 if answered else known.failures + 1, attempted_at=at)


# --- By example


def test_the_pauses_are_two_four_eight_minutes_and_on():
    minutes = [USUAL.pause(n) / timedelta(minutes=1) for n in range(1, 6)]
    assert minutes == [2, 4, 8, 16, 32]


def test_a_session_that_was_never_requested_is_due():
    assert all(USUAL.asks(None, NOON, retry) for retry in Retry)


def test_a_complete_session_is_never_due():
    assert not any(USUAL.asks(complete(), NOON + timedelta(days=9), retry) for retry in Retry)


@pytest.mark.parametrize("bars", [0, 12], ids=["empty", "partial"])
def test_an_incomplete_session_is_due_after_its_pause(bars):
    known = recorded(bars=bars)
    assert USUAL.next_attempt(known) == NOON + TWO_MINUTES
    assert not USUAL.asks(known, NOON + TWO_MINUTES - timedelta(microseconds=1))
    assert USUAL.asks(known, NOON + TWO_MINUTES)


@pytest.mark.parametrize("retry", [Retry.NOW, Retry.EXPLAINED])
def test_now_does_not_wait_for_the_pause(retry):
    assert USUAL.asks(recorded(), NOON, retry)
    assert USUAL.asks(recorded(bars=12), NOON, retry)


def test_a_session_that_only_failed_is_due_in_every_run():
    for failures in range(1, 12):
        known = recorded(answers=0, failures=failures)
        assert not USUAL.explained(known)
        assert all(USUAL.asks(known, NOON, retry) for retry in Retry)


def test_failures_count_among_the_attempts_and_lengthen_the_pause():
    assert USUAL.next_attempt(recorded(answers=1, failures=2)) == NOON + 4 * TWO_MINUTES
    assert USUAL.next_attempt(recorded(answers=2, failures=2)) == NOON + 8 * TWO_MINUTES
    assert USUAL.next_attempt(recorded(answers=2, failures=3)) is None


@pytest.mark.parametrize(
    ("answers", "failures", "explained"), [(4, 0, False), (5, 0, True), (2, 3, True), (1, 4, False)]
)
def test_explained_after_the_last_attempt_and_two_answers(answers, failures, explained):
    assert USUAL.explained(recorded(answers=answers, failures=failures)) is explained
    assert USUAL.explained(recorded(answers=answers, failures=failures, bars=12)) is explained


def test_one_answer_among_failures_confirms_nothing():
    known = recorded(answers=1, failures=4)
    asks = {retry: USUAL.asks(known, NOON + timedelta(days=9), retry) for retry in Retry}
    assert asks == {Retry.DUE: False, Retry.NOW: True, Retry.EXPLAINED: True}


@pytest.mark.parametrize(
    "known", [recorded(answers=5), recorded(answers=5, bars=12), recorded(answers=0, failures=1, refused=True)]
)
def test_an_explained_session_is_only_due_with_explained(known):
    asks = {retry: USUAL.asks(known, NOON + timedelta(days=9), retry) for retry in Retry}
    assert asks == {Retry.DUE: False, Retry.NOW: False, Retry.EXPLAINED: True}


def test_a_refused_session_is_explained_and_has_no_next_attempt():
    known = recorded(answers=0, failures=1, refused=True)
    assert USUAL.explained(known)
    assert USUAL.next_attempt(known) is None


def test_due_sessions_keep_their_order():
    days = [DAY + timedelta(days=n) for n in range(4)]
    known = {days[0]: complete(days[0]), days[1]: recorded(days[1]), days[3]: recorded(days[3], answers=0, failures=1)}
    assert USUAL.to_ask(days, known, NOON) == [days[2], days[3]]
    assert USUAL.to_ask(days, known, NOON + TWO_MINUTES) == days[1:]
    assert USUAL.to_ask(days, known, NOON, Retry.NOW) == days[1:]
    assert USUAL.to_ask([], known, NOON) == []


# --- For all sequences of instants


def history(retries, steps, outcomes=()):
    """Return the instants at which a session without bars is requested, if checked after each step, and its last record."""
    at, known, requested = NOON, None, []
    for number, step in enumerate(steps):
        at += step
        if retries.asks(known, at):
            requested.append((at, known))
            answered = outcomes[number % len(outcomes)] if outcomes else True
            known = after_attempt(known, at, retries, answered=answered)
    return requested, known


@given(RETRIES, LATER)
def test_an_empty_session_is_retried_with_doubling_pauses_up_to_the_limit(retries, steps):
    requested, known = history(retries, steps)
    assert len(requested) == known.attempts <= retries.attempts
    instants = [at for at, _ in requested]
    for number, (one, next_one) in enumerate(pairwise(instants)):
        assert next_one - one >= retries.first_pause * 2**number


@given(RETRIES)
def test_an_empty_session_is_explained_after_the_last_attempt(retries):
    requested, known = history(retries, [retries.first_pause * 2**retries.attempts] * (retries.attempts + 5))
    assert len(requested) == retries.attempts
    assert retries.explained(known)
    assert retries.next_attempt(known) is None


@given(RETRIES, LATER, st.lists(st.booleans(), min_size=1, max_size=9))
def test_failures_between_answers_do_not_add_attempts(retries, steps, outcomes):
    requested, known = history(retries, steps, outcomes)
    # After the nth answer so many attempts are left; all but the last of them may fail.
    since = [before for _, before in requested if before is not None and before.answers]
    assert len(since) <= sum(range(1, retries.attempts))
    assert known.attempts <= retries.attempts or not known.answers
    assert retries.explained(known) <= (known.answers >= CONFIRMED_BY)


@given(RETRIES, st.integers(0, 8), st.integers(0, 8), st.booleans(), st.booleans(), st.integers(-3600, 36_000))
def test_each_kind_of_retry_includes_the_previous_one(retries, answers, failures, refused, thin, seconds):
    known = recorded(bars=9 * thin, answers=answers, failures=failures, refused=refused and not thin)
    now = NOON + timedelta(seconds=seconds)
    due, sooner, all_of_it = (retries.asks(known, now, retry) for retry in Retry)
    assert due <= sooner <= all_of_it
    assert all_of_it
    assert sooner is not retries.explained(known)
