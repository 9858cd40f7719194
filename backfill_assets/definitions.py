"""What Dagster loads.

What lives here: `defs`, built from the environment when this module is imported. What does not: the building (`wiring`), so
that a program that wants other definitions need not build these.
"""

from backfill_assets.wiring import build_definitions

__all__ = ["build_definitions", "defs"]

defs = build_definitions()
