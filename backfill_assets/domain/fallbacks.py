"""When a fallback is asked for a session that the sources before it do not have."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.gaps import FIRST_ATTEMPT_DELAY
from backfill_assets.domain.retries import CONFIRMED_BY, Retries, Retry
from backfill_assets.domain.sources import Fallback
from backfill_assets.domain.timeframes import Timeframe


@dataclass(frozen=True, slots=True)
class FallbackAnswer:
    """What a fallback returned for a session.

    bars        the number of its bars that were stored; 0 if it had none
    answers, failures  answers without bars, and failed attempts
    answered_at, next_at  the last attempt, and when it is asked again, UTC; None if it is not
    detail      why the last attempt failed, or what was left out of the range that the answer came in; may be empty
    """

    bars: int = 0
    answers: int = 0
    failures: int = 0
    answered_at: datetime | None = None
    next_at: datetime | None = None
    detail: str = ""

    def answered(self, bars: int, at: datetime, detail: str, retries: Retries) -> FallbackAnswer:
        """Return the record after an answer; an empty one is confirmed by another."""
        answers = self.answers + (not bars)
        settled = bars or answers >= CONFIRMED_BY
        return FallbackAnswer(bars, answers, 0, at, None if settled else at + retries.pause(answers), detail)

    def failed(self, at: datetime, detail: str, retries: Retries) -> FallbackAnswer:
        """Return the record after a failed attempt."""
        failures = self.failures + 1
        due = at + retries.pause(failures) if failures < retries.attempts else None
        return FallbackAnswer(self.bars, self.answers, failures, at, due, detail)


def lacks(answer: SessionAnswer | None, retries: Retries) -> bool:
    """Whether the vendor will not give a session: confirmed empty, not in its plan, or failed past its attempts."""
    if answer is None or (answer.bars and not answer.filled_by):
        return False
    return retries.next_attempt(answer) is None


def unanswered(finished_at: datetime, answer: SessionAnswer | None, retries: Retries, now: datetime) -> bool:
    """Whether a vendor that cannot be reached at `now` has not answered for a session in the time of all its attempts.

    `finished_at` is the end of the session. A run that reaches nothing records nothing, so the time stands for the attempts.
    """
    attempts = sum((retries.pause(number) for number in range(1, retries.attempts)), timedelta())
    return (answer is None or not answer.answers) and finished_at + FIRST_ATTEMPT_DELAY + attempts <= now


def next_fallback(
    order: Sequence[Fallback],
    timeframe: Timeframe,
    session: date,
    asked: Mapping[str, FallbackAnswer],
    filled_by: str | None,
    now: datetime,
    retry: Retry,
    tried: Container[str] = (),
) -> Fallback | None:
    """Return the fallback to ask for a session that the vendor lacks; None if there is none, or none yet.

    One that failed or had no bars is asked again before those after it are. `asked` is by name of the fallback; `tried` are
    those that have had their turn in this run.
    """
    for fallback in order:
        if fallback.name == filled_by:
            return None
        if not fallback.serves(timeframe, session, now.date()):
            continue
        known = asked.get(fallback.name)
        if known is None:
            return fallback
        if known.next_at:
            due = retry is not Retry.DUE or known.next_at <= now
            return fallback if due and fallback.name not in tried else None
        if retry is Retry.EXPLAINED and fallback.name not in tried:
            return fallback
    return None
