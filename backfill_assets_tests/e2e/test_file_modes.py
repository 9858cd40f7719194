"""What a whole platform writes is for its owner only, started where everybody may write what others make."""

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from backfill_assets.simulator import Simulator
from backfill_assets_tests.e2e.platform import BACKFILL, PROJECT, environment
from backfill_assets_tests.postgres import open_folder

UNIVERSE = "markets: {crypto: {start: 2026-08-03, symbols: [BTC], timeframes: [1d]}}"
OTHERS_READ_OR_WRITE, OTHERS_PASS = 0o066, 0o011


def reached_by_others(folder: Path) -> Iterator[Path]:
    """The folder and what is in it, as far as another user gets."""
    yield folder
    if folder.stat().st_mode & OTHERS_PASS:
        for path in folder.iterdir():
            yield from reached_by_others(path) if path.is_dir() else [path]


def test_nothing_in_the_data_folder_is_read_or_written_by_others() -> None:
    with open_folder() as parent, Simulator() as simulator:
        data = parent / "new" / "data"
        variables = environment(simulator, parent / "own", "", UNIVERSE, BACKFILL_DATA_DIR=str(data))
        variables.pop("NUMBA_CACHE_DIR", None)

        def command(*arguments: str) -> None:
            subprocess.run(
                [BACKFILL, *arguments],
                cwd=PROJECT,
                env=variables,
                check=True,
                capture_output=True,
                umask=0,
                timeout=200,
            )

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        try:
            command("run", "--start", "2026-09-08", "--end", "2026-09-09", "--features")
            with subprocess.Popen(
                [BACKFILL, "up", "--port", str(port)],
                cwd=PROJECT,
                env=variables,
                stdout=subprocess.PIPE,
                text=True,
                umask=0,
            ) as up:
                assert up.stdout is not None
                try:
                    assert any(line.startswith("Dagit: ") for line in iter(up.stdout.readline, ""))
                    _look(data)
                finally:
                    up.send_signal(signal.SIGINT)
                    up.wait(60)
        finally:
            command("db", "stop")
        _look(data)


def _look(data: Path) -> None:
    open_to_others = {
        p: oct(p.stat().st_mode) for p in reached_by_others(data) if p.stat().st_mode & OTHERS_READ_OR_WRITE
    }
    assert open_to_others == {}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert {"postgres", "dagster", "logs", "services", "numba"} >= set(modes) >= {"postgres", "dagster", "numba"}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE(data.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    private = [*data.glob("logs/*.log"), *data.glob("services/*"), data / "postgres/password", data / "postgres/url"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert list(data.rglob("compute_logs/**/*.err")), "the run's output was looked at too"
