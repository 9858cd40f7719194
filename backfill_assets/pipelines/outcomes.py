"""The outcome of a run for the command that started it."""

from __future__ import annotations

from dataclasses import dataclass

from backfill_assets.adapters.store.features import UnusableBars
from backfill_assets.domain.errors import NotEntitled
from backfill_assets.pipelines.ohlcv import SeriesFailed


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run; if it failed, `error` is one sentence and `kind` the name of its type."""

    run_id: str
    error: str | None = None
    kind: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether the run stopped before all of its series were tried."""
        return not self.succeeded and self.kind not in {SeriesFailed.__name__, UnusableBars.__name__}

    @property
    def concerns_every_market(self) -> bool:
        """Whether the next market's run would fail for the same reason."""
        return self.ended_early and self.kind != NotEntitled.__name__

    @property
    def succeeded(self) -> bool:
        """Whether the run finished without an error."""
        return self.error is None
