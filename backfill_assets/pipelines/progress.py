"""What a pipeline reports while it works. All methods are called on the event loop's thread and must not block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backfill_assets.adapters.store.bars import Written
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol


class Progress(Protocol):
    """Follows a run over bars."""

    def planned(self, market: Market, calls: Sequence[ApiCall]) -> None:
        """The plan is made; it is empty if nothing has to be fetched."""

    def answered(self, call: ApiCall, sessions: int, written: Written) -> None:
        """A page is stored, which completed so many sessions."""

    def ended(self, call: ApiCall, error: Exception | None) -> None:
        """A call has no more pages, or failed with `error`."""

    def waiting(self, sentence: str) -> None:
        """The vendor's client waits; `sentence` says for what."""


class FeatureProgress(Protocol):
    """Follows a run over features."""

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """A series is up to date; so many rows were written."""


class ExportProgress(Protocol):
    """Follows an export."""

    def due(self, files: int) -> None:
        """So many files are due."""

    def exported(self, name: str, rows: int | None) -> None:
        """A file is up to date; it was removed if there are no rows for it. None: it could not be made."""

    def waiting(self, sentence: str) -> None:
        """Another process is waited for; `sentence` says for which."""


class Silent:
    """Reports nothing."""

    def planned(self, market: Market, calls: Sequence[ApiCall]) -> None:
        """Do nothing."""

    def answered(self, call: ApiCall, sessions: int, written: Written) -> None:
        """Do nothing."""

    def ended(self, call: ApiCall, error: Exception | None) -> None:
        """Do nothing."""

    def waiting(self, sentence: str) -> None:
        """Do nothing."""

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """Do nothing."""

    def due(self, files: int) -> None:
        """Do nothing."""

    def exported(self, name: str, rows: int | None) -> None:
        """Do nothing."""


SILENT = Silent()
