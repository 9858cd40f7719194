"""Commands in an environment of the test: a simulated vendor, a database, a data folder, a universe file."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.app import _exit_code
from backfill_assets.deployment.environment import BATCH_SIZE, NUMBA_CACHE
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import horizon
from backfill_assets.orchestration.launch import open_instance
from backfill_assets_tests.postgres import unset_variables
from backfill_assets_tests.support import KEY, PROJECT, rows, vendor, vendor_server

__all__ = ["vendor", "vendor_server"]

UNIVERSE = """
markets:
  stocks: {start: 2024-01-02, symbols: [AAPL, MSFT]}
  crypto: {start: 2024-01-01, symbols: [BTC]}
"""


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self):
        """The only line on standard error, without its prefix."""
        (line,) = self.err.splitlines()
        assert line.startswith("backfill: ")
        assert "Traceback" not in self.out + self.err
        return line.removeprefix("backfill: ")


class CommandRunner:
    """Runs commands: `backfill("run", "--days", "3")` in this process, `backfill.program(…)` in another one."""

    def __init__(self, capfd, vendor, database_url, data):
        self._capfd, self.vendor, self.database_url, self.data = capfd, vendor, database_url, data
        self.results = []

    def __call__(self, *arguments):
        self._capfd.readouterr()
        code = _exit_code(list(arguments))
        return self._record(CommandResult(code, *self._capfd.readouterr()))

    def program(self, *arguments):
        done = subprocess.run(
            [Path(sys.executable).parent / "backfill", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            cwd=PROJECT,
        )
        return self._record(CommandResult(done.returncode, done.stdout, done.stderr))

    def _record(self, result):
        self.results.append(result)
        return result

    def rows(self, query, *values):
        return rows(self.database_url, query, *values)

    def instance(self):
        """Dagster's instance as the commands open it; a context manager."""
        return open_instance(Settings.read())


@pytest.fixture
def environment(monkeypatch, tmp_path, vendor):
    """The environment, with a database that nobody serves."""
    unset_variables(monkeypatch, BATCH_SIZE)  # set by commands
    # Compiled once for all tests, and for the programs that they start.
    monkeypatch.setenv(NUMBA_CACHE, str(PROJECT / ".pytest_cache" / "numba"))
    universe = tmp_path / "universe.yaml"
    universe.write_text(UNIVERSE, encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:1/market")
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(universe))
    monkeypatch.setenv("POLYGON_BASE_URL", vendor.url)
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("POLYGON_REQUESTS_PER_SECOND", "500")
    return tmp_path / "data"


@pytest.fixture
def bare_backfill(environment, capfd, vendor):
    """Run commands without a database."""
    return CommandRunner(capfd, vendor, None, environment)


@pytest.fixture
def backfill(environment, capfd, vendor, dagster_database_url, monkeypatch):
    """Run commands with a database."""
    monkeypatch.setenv("DATABASE_URL", dagster_database_url)
    return CommandRunner(capfd, vendor, dagster_database_url, environment)


@pytest.fixture
def closed_markets(backfill, monkeypatch, tmp_path):
    """Run commands over two markets that close permanently on 10 March 2024, so that results do not depend on today."""
    after = list(DayRange(date(2024, 3, 11), horizon(datetime.now(UTC).date())))
    closures = {
        "stocks": ", ".join(f"{day}" for day in after if day.weekday() < 5),
        "crypto": ", ".join(f"{day}" for day in after),
    }
    path = tmp_path / "closed.yaml"
    path.write_text(
        f"""
markets:
  stocks: {{start: 2024-03-04, symbols: [AAPL, MSFT], extra_closures: [{closures["stocks"]}]}}
  crypto: {{start: 2024-03-04, symbols: [BTC], extra_closures: [{closures["crypto"]}]}}
""",
        encoding="utf-8",
    )
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(path))
    return backfill


@pytest.fixture
def backfilled_except(closed_markets, snapshots, monkeypatch):
    """Backfill `closed_markets` except for holes, whose retries are not due yet."""

    def fill(*holes):
        monkeypatch.setenv("BACKFILL_RETRY_FIRST_PAUSE", "3600")  # longer than the tests take
        closed_markets.vendor.change(holes=holes)

        def run():
            assert closed_markets("run").code == 3

        snapshots.restore_or_make(("backfilled except", holes), closed_markets.database_url, run)
        return closed_markets

    return fill
