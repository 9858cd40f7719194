"""`backfill report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.runs import RecordedRun, RunStore
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    duration,
    instant,
    output_console,
    plain_table,
    show_failed_checks,
    write_file,
)
from backfill_assets.domain.alert_rules import CheckResult, failed_checks
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.pipelines.report import json_default, report_json


def report_command(run_id: str | None, since: date | None, output: Path | None, *, as_json: bool) -> int:
    """Report on one run, on those since a day, or by default on the last of each market and job. Returns the exit code.

    The report in a file is always JSON.
    """
    settings, now = Settings.read(), datetime.now(UTC)
    markets = settings.universe(now.date()).markets
    with RunStore(database.ready(settings), read_only=True) as store:
        if run_id is not None:
            runs = store.read(run_id=run_id)
        elif since is not None:
            runs = store.read(since=datetime.combine(since, time(), UTC))
        else:
            runs = store.last()
        results = AlertStore.beside(store).check_results()
    if run_id is not None and not runs:
        raise UsageMistake(
            f"There is no run {run_id!r}; `backfill report --since 2025-01-31` lists the runs since a day."
        )
    reported = {run.run["market"] for run in runs}
    checks = [check for market in markets if market.name in reported for check in failed_checks(results, market)]
    if output is None and not as_json:
        _show(output_console(), runs, checks)
    else:
        text = json.dumps(report_json(runs, checks, now), indent=2, default=json_default) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            write_file(output, text, "--output")
            sys.stderr.write(f"Wrote {output}.\n")
    return DAYS_MISSING if any(check.wrong_data for check in checks) else COMPLETE


def _show(console: Console, runs: Sequence[RecordedRun], checks: Sequence[CheckResult]) -> None:
    """Print a row for each run, then the errors, bars left out and failed checks."""
    if not runs:
        console.print("No run is recorded.")
        return
    numbers = ("requests", "written", "changed", "removed", "gaps")
    table = plain_table("started (UTC)", "market", "kind", "status", "time", *numbers, right=["time", *numbers])
    table.padding = (0, 1, 0, 0)
    for each in runs:
        run = each.run
        took = duration((run["finished_at"] - run["started_at"]).total_seconds()) if run["finished_at"] else ""
        colour = {"succeeded": "green", "failed": "red"}.get(run["status"], "yellow")
        counts = (
            run["requests"],
            run["bars_written"] + run["features_written"],
            run["bars_changed"],
            run["bars_removed"],
        )
        table.add_row(
            f"{run['started_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            run["market"],
            run["kind"],
            f"[{colour}]{run['status']}[/]",
            took,
            *(f"{number:,}" for number in counts),
            f"{run['gaps_after']:,}",
        )
    console.print(table)
    for each in runs:
        if error := each.run["error"]:
            console.print(f"{each.run['market']} {each.run['kind']}: {error}", markup=False, soft_wrap=True)
        for row in each.rejected:
            console.print(
                f"rejected: {row['symbol']} {row['timeframe']} {instant(row['start'])}: {row['reason']}",
                markup=False,
                soft_wrap=True,
            )
    show_failed_checks(console, checks)
