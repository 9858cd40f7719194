"""What Dagster loads."""

from backfill_assets.orchestration.build import build_definitions

__all__ = ["build_definitions", "defs"]

defs = build_definitions()
