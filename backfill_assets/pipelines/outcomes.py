"""What came of a run, as far as a command has to know."""

from __future__ import annotations

from dataclasses import dataclass

from backfill_assets.adapters.store.features import UnusableBars
from backfill_assets.domain.errors import NotEntitled
from backfill_assets.pipelines.ohlcv import SeriesFailed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; `error` is one sentence where it failed, `kind` the name of its type."""

    run_id: str
    error: str | None = None
    kind: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether it did not go through all that it was asked for."""
        return not self.succeeded and self.kind not in {SeriesFailed.__name__, UnusableBars.__name__}

    @property
    def concerns_every_market(self) -> bool:
        """Whether the next market's run would end like it."""
        return self.ended_early and self.kind != NotEntitled.__name__

    @property
    def succeeded(self) -> bool:
        """Whether all that was asked for was answered."""
        return self.error is None
