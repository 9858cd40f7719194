"""The platform on the embedded server in a hostile environment: umask 0, wrong PG… variables, killed processes."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from backfill_assets.simulator import Simulator
from backfill_assets_tests.integration.adapters.test_database import CHANGING, HARMFUL
from backfill_assets_tests.postgres import public_folder
from backfill_assets_tests.system.platform import (
    Platform,
    backfill_up,
    code_processes,
    environment,
    run_command,
    wait_until,
)

UNIVERSE = "markets: {crypto: {start: 2026-08-03, symbols: [BTC], timeframes: [1d]}}"
SYMBOLS = """
{
  assetNodeOrError(assetKey: {path: ["crypto", "ohlcv_1d"]}) {
    ... on AssetNode { partitionKeysByDimension { name partitionKeys } }
  }
}"""
SHUTDOWN = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "backfill_assets") { __typename } }'
STATUS = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
OTHERS_READ_OR_WRITE, OTHERS_PASS = 0o066, 0o011


def test_files_are_private_and_services_of_a_killed_platform_are_ended() -> None:
    with public_folder() as parent, Simulator() as simulator:
        data = parent / "new" / "data"
        settings = {**HARMFUL, **CHANGING, "BACKFILL_DATA_DIR": str(data)}
        variables = environment(simulator, parent / "own", "", UNIVERSE, **settings)
        variables.pop("NUMBA_CACHE_DIR", None)

        def command(*arguments: str) -> None:
            done = run_command(variables, *arguments, umask=0)
            assert done.returncode == 0, done.stderr

        try:
            command("run", "--start", "2026-09-08", "--end", "2026-09-09", "--features")
            with backfill_up(simulator, variables, umask=0) as running:
                assert wait_until(lambda: _completeness_run(running)) == "SUCCESS"
                _assert_files_are_private(data)
                left = _kill(running)
            with backfill_up(simulator, variables, umask=0) as again:
                assert not any(_is_running(service) for service in left)
                services = psutil.Process(again.process.pid).children()
                assert len(services) == len(left) == 4
                _assert_files_are_private(data)
                _assert_it_recovers(again)
            assert not any(_is_running(service) for service in services)
        finally:
            command("db", "stop")
        _assert_files_are_private(data)


def _assert_it_recovers(running: Platform) -> None:
    """Assert that the universe is reloaded, and that backfills succeed after code servers were killed or shut down."""

    def symbols() -> list[str]:
        dimensions = running.graphql(SYMBOLS)["assetNodeOrError"]["partitionKeysByDimension"]
        (found,) = [dimension["partitionKeys"] for dimension in dimensions if dimension["name"] == "symbol"]
        return found

    assert symbols() == ["BTC"]
    file = Path(running.environment["BACKFILL_UNIVERSE"])
    file.write_text(UNIVERSE.replace("BTC", "BTC, ETH"), encoding="utf-8")
    wait_until(lambda: symbols() == ["BTC", "ETH"] or None)
    assert running.process.stdout is not None
    assert "Universe file changed; reloading.\n" in iter(running.process.stdout.readline, "")

    for process in code_processes(running.data):
        process.kill()
    _backfill(running, "2026-09-08|ETH")

    (code_server,) = [s for s in psutil.Process(running.process.pid).children() if "code-server" in s.cmdline()]
    code_server.kill()
    log = running.data / "logs" / "code-server.log"
    restarting = f"Service code-server exited with code -9; restarting it. Log: {log}\n"
    assert restarting in iter(running.process.stdout.readline, "")
    _backfill(running, "2026-09-09|ETH")

    def starts() -> int:
        return log.read_text(encoding="utf-8").count("Starting Dagster code proxy server")

    started = starts()
    running.process.stdout.close()  # messages without a reader do not end it either
    assert running.graphql(SHUTDOWN)["shutdownRepositoryLocation"]["__typename"] == "ShutdownRepositoryLocationSuccess"
    wait_until(lambda: starts() > started or None)
    _backfill(running, "2026-09-10|ETH")
    assert running.process.poll() is None


def _backfill(running: Platform, partition: str) -> None:
    """Launch a backfill until one succeeds: Dagster fails those that it evaluates while no code is loaded."""

    def status(launched: str) -> str | None:
        found = running.graphql(STATUS, id=launched)["partitionBackfillOrError"]["status"]
        return None if found in {"REQUESTED", "FAILING"} else found

    def succeeded() -> bool | None:
        with suppress(AssertionError):  # the code server cannot be reached yet
            launched = running.launch([("crypto", "ohlcv_1d")], [partition])
            return wait_until(lambda: status(launched)) == "COMPLETED_SUCCESS" or None
        return None

    wait_until(succeeded)


def _completeness_run(running: Platform) -> str | None:
    """Return the status of the daemon's completeness run, once it has ended."""
    ended = [run["status"] for run in running.runs() if run["jobName"] == "crypto_completeness_job"]
    return next((status for status in ended if status in {"SUCCESS", "FAILURE"}), None)


def _kill(running: Platform) -> list[psutil.Process]:
    """Kill `backfill up`; return its services, which keep running."""
    services = psutil.Process(running.process.pid).children()
    running.process.kill()
    running.process.wait(60)
    assert all(_is_running(service) for service in services)
    return services


def _is_running(service: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return service.is_running() and service.status() != psutil.STATUS_ZOMBIE
    return False


def _reached_by_others(folder: Path) -> Iterator[Path]:
    """Yield the folder and what another user can reach in it."""
    yield folder
    if folder.stat().st_mode & OTHERS_PASS:
        for path in folder.iterdir():
            yield from _reached_by_others(path) if path.is_dir() else [path]


def _assert_files_are_private(data: Path) -> None:
    """Assert that others can neither read nor write what is in the data folder."""
    open_to_others = {
        p: oct(p.stat().st_mode) for p in _reached_by_others(data) if p.stat().st_mode & OTHERS_READ_OR_WRITE
    }
    assert open_to_others == {}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert {"postgres", "dagster", "logs", "numba"} >= set(modes) >= {"postgres", "dagster", "numba"}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE(data.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    private = [*data.glob("logs/*.log"), data / "postgres/password", data / "postgres/url"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert list(data.rglob("compute_logs/**/*.err")), "the output of runs was checked too"
