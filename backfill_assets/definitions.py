"""What Dagster loads."""

from backfill_assets.deployment.environment import set_defaults
from backfill_assets.orchestration.build import build_definitions

__all__ = ["build_definitions", "defs"]

set_defaults()
defs = build_definitions()
