"""Whether what the code was loaded for still stands while `backfill up` runs: the universe file, and the year."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.errors import BackfillError
from backfill_assets.domain.sessions import horizon

type _State = tuple[tuple[int, ...] | None, date]


class UniverseChanges:
    """Looks at the universe file as often as it is asked to; `say` is told what it finds."""

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._say = say
        self._now = now
        self._known = self._last = self._state()

    def __call__(self) -> bool:
        """Whether the code is to be loaded anew. A file that has just changed is left for the next look: it may be half."""
        state, before = self._state(), self._last
        self._last = state
        if state == self._known or state != before:
            return False
        self._known = state
        try:
            universe = self._settings.universe(self._now().date())
        except BackfillError as mistake:
            self._say(f"The universe as it was stays in use. {mistake}")
            return False
        self._say("Loading the universe anew.")
        for warning in universe.warnings():
            self._say(warning)
        return True

    def _state(self) -> _State:
        """What the file system tells of the file, and the last day of the calendars, which a new year moves."""
        end = horizon(self._now().date())
        try:
            told = self._settings.universe_file.stat()
        except OSError:
            return None, end
        return (told.st_ino, told.st_size, told.st_mtime_ns), end
