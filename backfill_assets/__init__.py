"""backfill_assets: a complete, checked OHLCV store in PostgreSQL, kept by Dagster.

The public API is loaded on first use: `from backfill_assets import build_definitions, read_bars`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfill_assets.orchestration.build import build_definitions
    from backfill_assets.reading import iterate_bars, read_bars, read_corporate_actions, read_features, read_gaps

__all__ = [
    "build_definitions",
    "iterate_bars",
    "read_bars",
    "read_corporate_actions",
    "read_features",
    "read_gaps",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a name of the public API when it is first used: Dagster takes a second to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "orchestration.build" if name == "build_definitions" else "reading"
    return getattr(import_module(f"{__name__}.{module}"), name)
