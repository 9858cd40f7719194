"""When a session that came back empty, thin or not at all is asked for again, and when that ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

from backfill_assets.domain.answers import Answers, SessionAnswer

CONFIRMED_BY = 2
"""An empty answer is believed once it was given so often, the pauses between growing."""


FIRST_PAUSE = timedelta(minutes=2)
"""Between the first attempt and the second, where nothing else is set."""


class Retry(Enum):
    """What of the sessions that were asked for before, and are not whole, is asked for now."""

    DUE = "due"
    """What failed, and what was answered with too little and whose pause is over."""
    NOW = "now"
    """The same without waiting: everything that nothing explains yet."""
    EXPLAINED = "explained"
    """Also what was confirmed empty, or is not in the vendor's plan: a plan may have grown."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Pauses between the attempts at one session: they double from `first_pause`, and end after `attempts` in all.

    Days appear late at the vendor, so that one empty answer is too few; halts stay empty for ever, so that it must end.
    """

    first_pause: timedelta = FIRST_PAUSE
    attempts: int = 5

    def pause(self, attempts: int) -> timedelta:
        """How long to wait after so many attempts."""
        return self.first_pause * (1 << max(attempts - 1, 0))

    def next_attempt(self, answer: SessionAnswer) -> datetime | None:
        """When a session that is not whole falls due again, UTC; None where it was asked for often enough."""
        if answer.refused or answer.attempts >= self.attempts:
            return None
        return answer.attempted_at + self.pause(answer.attempts)

    def explained(self, answer: SessionAnswer) -> bool:
        """Whether asking again is of no use: refused, or answered alike often enough."""
        return answer.refused or (self.next_attempt(answer) is None and answer.answers >= CONFIRMED_BY)

    def asks(self, answer: SessionAnswer | None, now: datetime, retry: Retry = Retry.DUE) -> bool:
        """Whether to ask for a session of which `answer` stands recorded (None: nothing)."""
        if answer is None:
            return True
        if answer.complete:
            return False
        if self.explained(answer):
            return retry is Retry.EXPLAINED
        if retry is not Retry.DUE or answer.answers == 0:
            return True
        due = self.next_attempt(answer)
        return due is not None and due <= now

    def to_ask(self, sessions: Iterable[date], answers: Answers, now: datetime, retry: Retry = Retry.DUE) -> list[date]:
        """Those of the sessions to ask for. Ascending if `sessions` is."""
        return [s for s in sessions if self.asks(answers.get(s), now, retry)]


USUAL = Retries()
"""Where nothing else is set."""
