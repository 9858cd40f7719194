"""The platform's definitions with sensors that are due at every look of the daemon, once in five seconds."""

from backfill_assets.deployment.environment import set_defaults
from backfill_assets.orchestration.build import build_definitions

set_defaults()
defs = build_definitions()
for sensor in defs.sensors or ():
    sensor._min_interval = 1  # there is no public way
