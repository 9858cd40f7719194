"""The demo's surroundings: a simulator for a vendor, and a data folder that no real bar ever shares.

What lives here: the environment of the demo. What does not: running anything in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files

from backfill_assets.adapters.settings import Settings
from backfill_assets.simulator import Simulator

FOLDER = ".demo"
_REPLACED = ("DATABASE_URL", "POLYGON_REQUESTS_PER_SECOND")


@contextmanager
def demo_profile(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment with the simulator in the vendor's place, which runs as long as the context."""
    kept = {name: value for name, value in environ.items() if name not in _REPLACED}
    project = Settings.read(kept).project
    with Simulator() as simulator:
        yield kept | {
            "DAGSTER_HOME": str(project),
            "BACKFILL_DATA_DIR": str(project / FOLDER),
            "BACKFILL_UNIVERSE": str(files("backfill_assets.simulator") / "demo_universe.yaml"),
            "POLYGON_BASE_URL": simulator.url,
            "POLYGON_API_KEY": "demo",
        }
