"""Exit codes of the commands, and how they write: formats, consoles, files."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import TextWrapper
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backfill_assets.adapters.private_files import write_private
from backfill_assets.cli.streams import LossyFile, lossy_text
from backfill_assets.domain.alert_rules import CheckResult, merge_checks
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.timeframes import ranges
from backfill_assets.domain.universe import Archive, Market
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest

COMPLETE, FAILED, DAYS_MISSING = 0, 1, 3
MISTAKE = UsageMistake.exit_code
PIPED_WIDTH = 160


def worst(*codes: int) -> int:
    """Return the worst exit code: a mistake, failed, then days missing or data wrong, then complete."""
    return min(codes, key=(MISTAKE, FAILED, DAYS_MISSING, COMPLETE).index)


def duration(seconds: float) -> str:
    """Format a duration: 4 s, 1:05 min, 2:30 h."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    minutes, rest = divmod(rounded, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def counted(number: int, thing: str) -> str:
    """Format a number with its noun: 1 session, 2 sessions."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def instant(at: datetime) -> str:
    """Format an aware instant: 2025-01-31 02:00:00 UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def until(at: datetime | None, now: datetime) -> str:
    """Format the time until an instant, in the largest unit, rounded up, in at most 9 characters: now, in 2 min, none."""
    if at is None:
        return "none"
    seconds = (at - now).total_seconds()
    if seconds <= 0:
        return "now"
    unit, length = next((u for u in (("d", 86_400), ("h", 3600), ("min", 60)) if seconds >= u[1]), ("s", 1))
    return f"in {-int(-seconds // length)} {unit}"


def plain_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Return a table without lines; the columns named in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def print_json(document: object) -> None:
    """Print a JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_errors(outcomes: Iterable[tuple[Market | Archive, Outcome | None]]) -> None:
    """Print a line for each failed run on standard error."""
    for market, outcome in outcomes:
        if outcome and outcome.error:
            sys.stderr.write(f"backfill: {market.name}: {outcome.error}\n")


def run_json(market: Market, outcome: Outcome) -> dict[str, object]:
    """Return a market's run for JSON."""
    return {
        "market": market.name,
        "run_id": outcome.run_id,
        "succeeded": outcome.succeeded,
        "error": outcome.error,
    }


def output_console() -> Console:
    """Return a console on standard output, for results."""
    return _console(sys.stdout)


@contextmanager
def progress_console() -> Iterator[Console]:
    """Open a console on standard error, for progress.

    It writes to a copy of the file descriptor: while a step runs, Dagster replaces the original by a pipe.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # no file descriptor, as in a test that captures output
        yield _console(sys.stderr)
        return
    with lossy_text(LossyFile(descriptor, "w"), sys.stderr) as copy:
        yield _console(copy)


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else PIPED_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def write_file(path: Path, text: str, option: str) -> None:
    """Write the file atomically, readable by its owner only unless it exists with other permissions.

    Raises UsageMistake that names the `option` of the path.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write_private(part, text.encode())
        if path.is_file() and path.stat().st_uid == os.geteuid():
            part.chmod(stat.S_IMODE(path.stat().st_mode))
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # there is none, or it is another user's
            part.unlink()
        raise UsageMistake(f"{option} {str(path)!r} cannot be written ({error.strerror}).") from None


_SHOWN_SERIES = 4
_SHOWN_CAUSES = 12


@dataclass(frozen=True, slots=True)
class Cause:
    """Sessions that are missing for one reason; `series` has the timeframes by symbol name."""

    days: DayRange
    sessions: int
    reason: str
    explained: bool
    detail: str
    series: dict[str, list[str]]

    @property
    def description(self) -> str:
        """Days, the first few series and the detail: 2024-03-06 (1 session) of AAPL 1m 5m."""
        series = ", ".join(f"{s} {ranges(t)}" for s, t in list(self.series.items())[:_SHOWN_SERIES])
        more = f" and {len(self.series) - _SHOWN_SERIES} more" if len(self.series) > _SHOWN_SERIES else ""
        detail = f": {escape(self.detail)}" if self.detail else ""
        return f"{self.days} ({counted(self.sessions, 'session')}) of {series}{more}{detail}"


def show_causes(console: Console, gaps: Iterable[Gap], sentence: Callable[[Cause], str]) -> None:
    """Print the first causes of gaps; `sentence` describes one and closes the colour that is opened before it."""
    alike: dict[tuple[DayRange, int, str, bool, str], dict[str, list[str]]] = {}
    for gap in gaps:
        what = (gap.days, gap.sessions, gap.reason.value, gap.explained, gap.detail)
        alike.setdefault(what, {}).setdefault(gap.symbol, []).append(gap.timeframe)
    causes = [Cause(*what, series) for what, series in alike.items()]
    for cause in causes[:_SHOWN_CAUSES]:
        # Not wrapped: a sentence may hold a command to copy.
        console.print(f"[{'yellow' if cause.explained else 'red'}]{sentence(cause)}", soft_wrap=True)
    if len(causes) > _SHOWN_CAUSES:
        console.print(f"… and {len(causes) - _SHOWN_CAUSES} more: see `backfill gaps`.")


def show_failed_checks(console: Console, checks: Iterable[CheckResult]) -> None:
    """Print each failed check in lines of up to 80 columns; assets of a market for which it found the same share one.

    Lines that hold a command to copy are not wrapped.
    """
    for result in merge_checks(checks):
        colour, indent = "red" if result.error else "yellow", "  "
        console.print(f"[{colour}]check {result.check} failed[/] for {result.asset}", soft_wrap=True)
        paragraph = TextWrapper(80, indent, indent, break_long_words=False, break_on_hyphens=False)
        lines = [f"{indent}{result.sentence}" if "`" in result.sentence else paragraph.fill(result.sentence)]
        lines += [f"{indent}Checked {instant(result.checked_at)}."] if result.checked_at else []
        lines += [f"{indent}Repair: {result.repair}"] if result.repair else []
        console.print("\n".join(lines), markup=False, soft_wrap=True)


def show_details(console: Console, gaps: Iterable[Gap]) -> None:
    """Print what adds to the reasons of gaps, once for each symbol; of partial sessions with their days."""
    details = dict.fromkeys(
        (f"{g.symbol} {g.days}" if g.reason in {Reason.PARTIAL, Reason.FALLBACK} else g.symbol, g.detail)
        for g in gaps
        if g.detail
    )
    for place, detail in [*details][:_SHOWN_CAUSES]:
        console.print(f"{place}: {detail}{'' if detail.endswith('?') else '.'}", markup=False, soft_wrap=True)


def describe(request: BackfillRequest) -> str:
    """Describe a request: 2 symbols, 1m, 1d, 2024-03-04 to 2024-03-08 (5 sessions)."""
    sessions = counted(max(map(len, request.wanted.values()), default=0), "session")
    span = f"{request.days} ({sessions})" if request.days else "no finished session in this range"
    return ", ".join([counted(len(request.wanted), "symbol"), *(t.name for t in request.timeframes), span])
