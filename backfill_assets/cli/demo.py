"""`backfill demo`: fetch a small universe from the simulator, with a data folder of its own."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from backfill_assets.adapters.private_files import make_data_folder, write_private
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.archive import chosen, fetch_command
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import COMPLETE, DAYS_MISSING, print_errors, worst
from backfill_assets.cli.run import run_command, run_markets
from backfill_assets.cli.selection import select
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.simulator import Dividend, Hole, Rename, Scenario, Simulator, Split

_REPLACED = (
    "DAGSTER_HOME",
    "DATABASE_URL",
    "POLYGON_REQUESTS_PER_SECOND",
    "POLYGON_BASE_URL",
    "POLYGON_API_KEY",
    "POLYGON_FILES_ACCESS_KEY_ID",
    "POLYGON_FILES_SECRET_ACCESS_KEY",
    "POLYGON_FILES_URL",
    "POLYGON_FILES_BUCKET",
    *(f"{source}_{name}" for source in ("YAHOO", "ALPACA", "BINANCE_US") for name in ("URL", "REQUESTS_PER_SECOND")),
    "APCA_API_KEY_ID",
    "APCA_API_SECRET_KEY",
    "BACKFILL_UNIVERSE",
    "BACKFILL_DATA_DIR",
    "BACKFILL_ARCHIVE",
    "BACKFILL_EXPORT",
    "ALERT_URLS",
    "ALERT_REPEAT_HOURS",
    "DAGSTER_UI_URL",
    "DAGIT_URL",
)
"""Unset for the demo: their values are for real data, and may be wrong."""

DAYS = 30
"""How far back the first demo goes."""

_UNIVERSE = """# The universe of `backfill demo`: made-up bars of real symbols, from the simulator.
# Created {created:%Y-%m-%dT%H:%M:%SZ}: the simulator's gaps, split and dividend are on days that follow from this.
markets:
  stocks:
    start: {start}
    symbols:
      - AAPL
      - SPY
      - MSFT
      - symbol: META
        formerly: [{{ticker: FB, until: {before_rename}}}]
  crypto:
    start: {start}
    symbols: [BTC, ETH]
"""

_ARCHIVE = """archives:
  us_stocks: {{kind: stocks, start: {archive_start}}}
"""
"""Of a week of every ticker, if the extras for it are installed."""


def demo_command() -> int:
    """Run `backfill demo` and return its exit code: 0 also if only what the simulator withholds is missing."""
    with demo_profile():
        sys.stdout.write(
            "Six symbols from a local simulator of Polygon.io, with made-up prices.\n"
            "Fetched in two runs; the first, up to last week, is not shown.\n"
        )
        sys.stdout.flush()
        code = _first_sessions() or run_command(Options(), features=True)
        if code in (COMPLETE, DAYS_MISSING):
            _materialize(("listings", "events", "completeness"))
            _archive()
            sys.stdout.write(_DIRECTIONS.format(backfill=_program(), data=shlex.quote(os.environ["BACKFILL_DATA_DIR"])))
            code = COMPLETE
    return code


def _first_sessions() -> int:
    """Fetch all but the last few sessions and measure completeness: with two points, the Dagster UI can plot."""
    settings, universe, requests = select(Options(end=datetime.now(UTC).date() - timedelta(days=7)), project=True)
    results = run_markets(settings, universe, lambda _: requests, max_concurrent=3, quiet=True)
    print_errors((result.request.market, result.outcome) for result in results)
    code = worst(COMPLETE, *(result.outcome.exit_code for result in results if result.outcome))
    if code == COMPLETE:
        _materialize(("completeness",))
    return code


def _materialize(jobs: Sequence[str]) -> None:
    """Materialize the assets without partitions that these jobs of every market have."""
    from backfill_assets.orchestration.build import build_definitions  # noqa: PLC0415  # Dagster takes seconds to load
    from backfill_assets.orchestration.launch import open_instance, run_job  # noqa: PLC0415  # the same
    from backfill_assets.orchestration.schedules import market_jobs  # noqa: PLC0415  # the same

    settings, universe, _ = select(Options())
    defs = build_definitions(universe=universe)
    with open_instance(settings) as instance:
        for market in universe.markets:
            for name, job in market_jobs(market).items():
                if job.name.removesuffix("_job") in jobs:
                    keys = job.select(market).resolve(defs.resolve_asset_graph())
                    run_job(instance, defs.resolve_job_def(name), settings, assets=frozenset(keys))


def _archive() -> None:
    """Fetch the archive, if the universe has one."""
    settings = Settings.read()
    if settings.universe(datetime.now(UTC).date()).archives:
        sys.stdout.write("\nThe archive of every ticker, in files:\n")
        sys.stdout.flush()
        fetch_command(*chosen(None, None, None), full=False, quiet=True, as_json=False)


@contextmanager
def demo_profile() -> Iterator[None]:
    """Start a simulator and set this process's environment for it until the context ends; child processes inherit it.

    The resources of a run and Dagster's storage read `os.environ` when they are used, so a copy would not do.
    """
    before = dict(os.environ)
    for name in _REPLACED:
        os.environ.pop(name, None)
    try:
        project = Settings.read().project
        universe = _universe(project / ".demo")
        with Simulator(_scenario(_created(universe))) as simulator:
            os.environ.update(
                DAGSTER_HOME=str(project),
                BACKFILL_DATA_DIR=str(project / ".demo"),
                BACKFILL_UNIVERSE=str(universe),
                POLYGON_BASE_URL=simulator.url,
                POLYGON_API_KEY="demo",
                POLYGON_FILES_URL=simulator.url,
                POLYGON_FILES_ACCESS_KEY_ID="demo",
                POLYGON_FILES_SECRET_ACCESS_KEY="demo",  # noqa: S106  # of the simulator
            )
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _scenario(created: datetime) -> Scenario:
    """Return what the simulator shows to a demo that was created at this instant; it is the same on later days.

    Two sessions of MSFT are withheld for some minutes, for the sensor `gap_repair` to fetch, and the afternoon of a
    session of SPY permanently. AAPL has a split and a dividend, and META traded as FB before.
    """
    sessions = _sessions(created)
    return Scenario(
        holes=(
            Hole(ticker="MSFT", first=sessions[4], last=sessions[5], heal_at=created + timedelta(minutes=3)),
            Hole(ticker="SPY", first=sessions[6], last=sessions[6], base="minute", start="11:00"),
        ),
        splits=(Split(ticker="AAPL", execution_date=sessions[8], split_to=2),),
        dividends=(Dividend(ticker="AAPL", ex_dividend_date=sessions[9], cash_amount=0.25),),
        renames=(Rename(ticker="META", earlier="FB", day=sessions[10]),),
    )


def _sessions(created: datetime) -> Sequence[date]:
    """Return the stock sessions between the first day of the demo and the day on which it was created."""
    return calendar(Kind.STOCKS, DayRange(created.date() - timedelta(days=DAYS), created.date())).sessions


def _universe(folder: Path) -> Path:
    """Return the path of the demo's universe file, written once so that its first day stays the same."""
    path = folder / "universe.yaml"
    if not path.exists():
        now = datetime.now(UTC)
        has_extras = all(map(find_spec, ("obstore", "polars", "pyarrow")))
        text = (_UNIVERSE + _ARCHIVE * has_extras).format(
            created=now,
            start=now.date() - timedelta(days=DAYS),
            before_rename=_sessions(now)[9],
            archive_start=now.date() - timedelta(days=7),
        )
        write_private(make_data_folder(folder) / path.name, text.encode())
    return path


def _created(universe: Path) -> datetime:
    """Return when the demo was created, as its universe file says; now if that line is gone."""
    written = re.search(r"^# Created (\S+Z)", universe.read_text(encoding="utf-8"), re.MULTILINE)
    return datetime.fromisoformat(written[1]) if written else datetime.now(UTC)


def _program() -> str:
    """Return how to call this program from the working folder."""
    beside = os.path.join(os.path.dirname(sys.executable), "backfill")  # noqa: PTH118, PTH120  # must not follow links
    return os.path.relpath(beside) if os.path.exists(beside) else "backfill"  # noqa: PTH110  # the same


_DIRECTIONS = """
Look at it:
  {backfill} status --demo    # deliberate gaps: two sessions of MSFT, an afternoon of SPY
  {backfill} events --demo    # a split and a dividend of AAPL
  {backfill} archive status --demo    # every ticker of a week, in files
  {backfill} up --demo        # the Dagster UI (Dagit); fetches the sessions of MSFT within minutes
  {backfill} db psql --demo   # SQL: the bars are in the table market_data
With --demo, every command works on these data. From Python: export BACKFILL_DATA_DIR={data}

With your own key, real bars of the symbols in backfill_assets/universe.yaml:
  export POLYGON_API_KEY=… && {backfill} run --days 30 && {backfill} up
"""
