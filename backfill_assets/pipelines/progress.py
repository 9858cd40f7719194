"""Who is told how a piece of work goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backfill_assets.adapters.store.bars import Written
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market, Symbol


class Progress(Protocol):
    """Told by the event loop's thread, in order; it must not block."""

    def planned(self, market: Market, requests: Sequence[ApiCall]) -> None:
        """What will be asked for; empty where nothing is missing."""

    def answered(self, request: ApiCall, sessions: int, written: Written) -> None:
        """A page is stored; it completed so many sessions."""

    def ended(self, request: ApiCall, error: Exception | None) -> None:
        """No more pages of this request; `error` says why, where it failed."""

    def settled(self, symbol: Symbol, source: Timeframe) -> None:
        """No request for this series is left: it and what is derived from it are stored as this work leaves them."""


class FeatureProgress(Protocol):
    """Told by the event loop's thread; it must not block."""

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """A series is up to date; so many rows were written."""


class Silent:
    """Nobody is told."""

    def planned(self, market: Market, requests: Sequence[ApiCall]) -> None:
        """Nothing."""

    def answered(self, request: ApiCall, sessions: int, written: Written) -> None:
        """Nothing."""

    def ended(self, request: ApiCall, error: Exception | None) -> None:
        """Nothing."""

    def settled(self, symbol: Symbol, source: Timeframe) -> None:
        """Nothing."""

    def computed(self, symbol: Symbol, timeframe: Timeframe, rows: int) -> None:
        """Nothing."""
