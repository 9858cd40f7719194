"""backfill_assets: a complete, checked OHLCV store in PostgreSQL, kept by Dagster.

The public API is loaded on first use: `from backfill_assets import build_definitions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfill_assets.orchestration.build import build_definitions

__all__ = ["build_definitions"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a name of the public API when it is first used: Dagster takes a second to load."""
    if name == "build_definitions":
        from backfill_assets.orchestration.build import build_definitions  # noqa: PLC0415  # loaded on first use

        return build_definitions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
