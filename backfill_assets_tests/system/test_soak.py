"""The memory of `backfill up` is bounded."""

import json
import shutil
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import linear_regression

import psutil
import pytest

from backfill_assets.simulator import Simulator
from backfill_assets_tests.postgres import public_folder
from backfill_assets_tests.support import PROJECT, SOAK
from backfill_assets_tests.system.platform import backfill_up, environment, run_command

SAMPLES = 60
_PAUSE_SECONDS = 60
MOST_MB_AN_HOUR = 4.0
"""In the second half of an hour the process that grows most grew by 1.3 MB an hour, by steps: the daemon loads the
definitions again every minute, see docs/explanation/reliability.md."""


def project(folder: Path) -> Path:
    """Make a project's folder whose five sensors each tick every five seconds: one tick a second."""
    shutil.copy(PROJECT / "dagster.yaml", folder)
    where = {"relative_path": str(Path(__file__).with_name("frequent_ticks.py")), "location_name": "backfill_assets"}
    (folder / "workspace.yaml").write_text(json.dumps({"load_from": [{"python_file": where}]}))  # JSON is YAML
    return folder


def anonymous_mb(process: psutil.Process) -> float:
    """Return a process's share of memory that is not a file's: what other programs load changes the share of those."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("Pss_Anon:")]
    return int(size) / 1024


def service(process: psutil.Process) -> str | None:
    """Return the name of a service's process, or None for one that carries out a run."""
    words = set(process.cmdline())
    names = {"up": "up", "grpc": "code", "code-server": "code server", "dagster._daemon": "daemon"}
    names |= {"backfill_assets.deployment.webserver": "webserver", "backfill_assets.web.server": "status page"}
    return next((name for word, name in names.items() if word in words), None)


@pytest.mark.skipif(not SOAK, reason="takes an hour")
def test_memory_is_bounded_at_rest() -> None:
    start = datetime.now(UTC).date() - timedelta(days=7)
    universe = f"""
markets:
  stocks: {{start: {start}, symbols: [AAPL, SPY]}}
  crypto: {{start: {start}, symbols: [BTC, ETH]}}"""
    sizes: dict[str, list[float]] = defaultdict(list)
    with Simulator() as simulator, public_folder() as folder:
        variables = environment(simulator, folder / "data", "", universe, DAGSTER_HOME=str(project(folder)))
        del variables["DATABASE_URL"]
        try:
            with backfill_up(simulator, variables) as running:
                parent = psutil.Process(running.process.pid)
                services = {s: n for s in (parent, *parent.children(recursive=True)) if (n := service(s))}
                assert sorted(services.values()) == ["code", "code server", "daemon", "status page", "up", "webserver"]
                print(f"\n{'minute':>6}", *(f"{name:>12}" for name in services.values()))  # noqa: T201
                for minute in range(SAMPLES):
                    time.sleep(_PAUSE_SECONDS)
                    for each, name in services.items():
                        sizes[name].append(anonymous_mb(each))
                    print(f"{minute + 1:>6}", *(f"{s[-1]:>12.1f}" for s in sizes.values()), flush=True)  # noqa: T201
        finally:
            run_command(variables, "db", "stop")
    second_half = range(SAMPLES // 2, SAMPLES)
    growth = {
        name: linear_regression([i * _PAUSE_SECONDS / 3600 for i in second_half], size[SAMPLES // 2 :]).slope
        for name, size in sizes.items()
    }
    print("MB an hour", {name: round(slope, 1) for name, slope in growth.items()})  # noqa: T201
    assert max(growth.values()) < MOST_MB_AN_HOUR, growth
