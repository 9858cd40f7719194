"""When a session without complete bars is requested again, and when that ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from zlib import crc32

from backfill_assets.domain.answers import Answers, SessionAnswer
from backfill_assets.domain.bars import Int

CONFIRMED_BY = 2
"""An empty session is confirmed after so many empty responses, at growing intervals."""


FIRST_PAUSE = timedelta(minutes=2)
"""The default pause between the first and the second attempt."""

CONFIRMING_PAUSE = timedelta(hours=1)
"""The least time between two answers that together remove more than a tenth of a session's bars: longer than most outages."""


class Retry(Enum):
    """Which sessions that were requested before and are incomplete are requested now."""

    DUE = "due"
    """Those that failed, and incomplete ones whose pause is over."""
    NOW = "now"
    """All unexplained ones, without waiting."""
    EXPLAINED = "explained"
    """Also those that are confirmed empty or not in the vendor's plan, which may have changed."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Pauses between the attempts at one session: they double from `first_pause`, for `attempts` in all.

    Data may appear late at the vendor, so one empty response is not enough; trading halts stay empty, so retries must end.
    """

    first_pause: timedelta = FIRST_PAUSE
    attempts: int = 5

    def pause(self, attempts: int) -> timedelta:
        """Return the pause after so many attempts."""
        return self.first_pause * (1 << max(attempts - 1, 0))

    def next_attempt(self, answer: SessionAnswer) -> datetime | None:
        """Return when an incomplete session is due again, UTC; None after the last attempt.

        An answer that lacks stored bars is always followed by another one: it is either confirmed or refuted.
        """
        if answer.refused or (answer.attempts >= self.attempts and not answer.shrunk_at):
            return None
        due = answer.attempted_at + self.pause(answer.attempts)
        return max(due, answer.shrunk_at + CONFIRMING_PAUSE) if answer.shrunk_at else due

    def explained(self, answer: SessionAnswer) -> bool:
        """Whether another attempt is useless: refused, or confirmed often enough.

        A session all of whose bars were left out is not empty, nor is one of which the witness has a bar: both stay
        unexplained.
        """
        if (answer.bars == 0 and answer.doubt) or (answer.witnessed and not answer.refused):
            return False
        return answer.refused or (self.next_attempt(answer) is None and answer.answers >= CONFIRMED_BY)

    def asks(self, answer: SessionAnswer | None, now: datetime, retry: Retry = Retry.DUE) -> bool:
        """Whether to request a session whose recorded answer is `answer`, or None."""
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
        """Return the sessions to request, in their order."""
        return [s for s in sessions if self.asks(answers.get(s), now, retry)]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """When an answer first lacked more than a tenth of a session's stored bars (UTC), and a digest of their starts."""

    at: datetime
    digest: int


def unconfirmed(stored: int, lacking: Int, at: datetime, before: Shrunk | None) -> Shrunk | None:
    """Return what to record if the bars that an answer at `at` lacks are kept, or None if they are to be removed.

    They are removed if they are at most a tenth of the `stored` ones, or if an earlier answer lacked the same. `lacking` are
    their starts, ascending.
    """
    if len(lacking) * 10 <= stored:
        return None
    digest = crc32(lacking.tobytes())
    if before is None or before.digest != digest:
        return Shrunk(at, digest)
    return None if at >= before.at + CONFIRMING_PAUSE else before


USUAL = Retries()
"""The default."""
