"""The platform as users run it: `backfill up`, over a simulator and the test's database."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from backfill_assets.deployment.services import marked
from backfill_assets.simulator import Simulator
from backfill_assets_tests.support import PROJECT, rows, unused_port

BACKFILL = Path(sys.executable).parent / "backfill"
_LONGEST_WAIT_SECONDS = 150
LONG_RETRY_PAUSE = {"BACKFILL_RETRY_FIRST_PAUSE": "86400"}
"""Settings that keep the repair sensor from fetching what a test leaves missing."""

_RUNS = "{ runsOrError { ... on Runs { results { runId jobName status tags { key value } } } } }"
_LAUNCH = """
mutation ($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""


@dataclass(frozen=True)
class Platform:
    """A running `backfill up`."""

    url: str
    status_url: str
    data: Path
    environment: dict[str, str]
    simulator: Simulator
    process: subprocess.Popen[str]

    def graphql(self, query: str, **variables: object) -> Any:
        """Send a GraphQL query; return its `data`."""
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, with their tags by name."""
        found = self.graphql(_RUNS)["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def launch(self, assets: Iterable[tuple[str, ...]], partitions: Iterable[str], config: object = None) -> str:
        """Launch a backfill of these partitions, as an asset's page does; return its id."""
        parameters = {
            "assetSelection": [{"path": list(path)} for path in assets],
            "partitionNames": list(partitions),
            "fromFailure": False,
        }
        if config is not None:
            parameters["runConfigData"] = config
        answer = self.graphql(_LAUNCH, parameters=parameters)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])


def run_command(variables: dict[str, str], *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a `backfill` command in an environment."""
    return subprocess.run(
        [BACKFILL, *map(str, arguments)],
        cwd=PROJECT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        **options,
    )


def wait_until[T](question: Callable[[], T | None]) -> T:
    """Poll until the answer is not None, and return it."""
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while time.monotonic() < deadline:
        if (answer := question()) is not None:
            return answer
        time.sleep(0.5)
    raise TimeoutError(question.__name__)


def is_midway(simulator: Simulator, database_url: str) -> bool:
    """Return whether minutes are stored and days requested, which lasts for a while where the vendor's days are slow."""
    requested = any("/1/day/" in request.path for request in simulator.requests)
    return requested and bool(rows(database_url, "select 1 from market_data where timeframe = '1m' limit 1"))


def environment(simulator: Simulator, data: Path, database_url: str, universe: str, **settings: str) -> dict[str, str]:
    """Return the environment that a user would export."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "universe.yaml").write_text(universe, encoding="utf-8")
    ours = ("DAGSTER_", "BACKFILL_", "ALERT_", "DAGIT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "DATABASE_URL": database_url,
        "BACKFILL_DATA_DIR": str(data),
        "BACKFILL_UNIVERSE": str(data / "universe.yaml"),
        "POLYGON_BASE_URL": simulator.url,
        "POLYGON_API_KEY": "a-key-for-tests",
        "POLYGON_REQUESTS_PER_SECOND": "100",
        **settings,
    }


def code_processes(data: Path) -> list[psutil.Process]:
    """The processes that have the code of a `backfill up` over this data folder."""
    return [process for _, process in marked(data) if {"api", "grpc"} <= set(process.info["cmdline"])]


@contextmanager
def platform(simulator: Simulator, data: Path, database_url: str, universe: str, **settings: str) -> Iterator[Platform]:
    """Run `backfill up` with these settings."""
    with backfill_up(simulator, environment(simulator, data, database_url, universe, **settings)) as running:
        yield running


@contextmanager
def backfill_up(simulator: Simulator, variables: dict[str, str], *, umask: int = -1) -> Iterator[Platform]:
    """Run `backfill up` in an environment; at the end send SIGINT and check that all its processes end."""
    data = Path(variables["BACKFILL_DATA_DIR"])
    port, status_port = unused_port(), unused_port()
    command = [BACKFILL, "up", "--port", str(port), "--status-port", str(status_port)]
    with subprocess.Popen(
        command, cwd=PROJECT, env=variables, stdout=subprocess.PIPE, text=True, umask=umask
    ) as process:
        try:
            assert process.stdout is not None
            output: list[str] = []
            for line in process.stdout:
                output.append(line)
                if line.startswith("Dagster UI: "):
                    break
            assert output[-1:] == [f"Dagster UI: http://127.0.0.1:{port}   (logs: {data / 'logs'})\n"], "".join(output)
            status_url = f"http://127.0.0.1:{status_port}"
            yield Platform(f"http://127.0.0.1:{port}", status_url, data, variables, simulator, process)
        finally:
            if process.poll() is None:  # else it was killed, and its services still run
                process.send_signal(signal.SIGINT)
                process.wait(60)
                # A process that carries out a run exits with it, which needs the database.
                wait_until(lambda: None if code_processes(data) else True)
