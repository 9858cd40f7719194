"""The definitions that Dagster loads."""

from backfill_assets.orchestration.build import build_definitions

defs = build_definitions()
