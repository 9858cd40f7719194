"""The definitions that Dagster loads."""

from backfill_assets.deployment.environment import set_defaults
from backfill_assets.orchestration.build import build_definitions

set_defaults()
defs = build_definitions()
