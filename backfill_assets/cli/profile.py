"""The demo's surroundings: a simulator for a vendor, and a data folder that no real bar ever shares.

What lives here: the environment of the demo. What does not: running anything in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from backfill_assets.adapters.settings import Settings
from backfill_assets.simulator import Simulator

FOLDER = ".demo"
_REPLACED = (
    "DATABASE_URL",
    "POLYGON_REQUESTS_PER_SECOND",
    "POLYGON_BASE_URL",
    "POLYGON_API_KEY",
    "BACKFILL_UNIVERSE",
    "BACKFILL_DATA_DIR",
)
"""Unset first: what they hold is for real use, and may be wrong."""


@contextmanager
def demo_profile() -> Iterator[None]:
    """For as long as the context: this process's environment, and so its children's, has the simulator in the vendor's place.

    It must be the real environment: a run's resources and Dagster's storage read it where they are used.
    """
    before = dict(os.environ)
    for name in _REPLACED:
        os.environ.pop(name, None)
    try:
        project = Settings.read(os.environ).project
        with Simulator() as simulator:
            os.environ.update(
                DAGSTER_HOME=str(project),
                BACKFILL_DATA_DIR=str(project / FOLDER),
                BACKFILL_UNIVERSE=str(files("backfill_assets.simulator") / "demo_universe.yaml"),
                POLYGON_BASE_URL=simulator.url,
                POLYGON_API_KEY="demo",
            )
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
