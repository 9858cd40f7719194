"""The result of `backfill run` and `backfill repair`, as a table and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from rich.console import Console
from rich.table import Table

from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.domain.answers import Answers, missing_sessions
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.request_plan import ApiCall, pages_of
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of

COMPLETE, FAILED, DAYS_MISSING = 0, 1, 3
_SHOWN = 4
SHOWN_CAUSES = 12


@dataclass(slots=True)
class MarketResult:
    """A market's backfill request and what became of it.

    outcome   of its run; None if no run was needed
    answers   what is stored, as of the plan and after the run
    """

    request: BackfillRequest
    plan: Sequence[ApiCall] = ()
    outcome: Outcome | None = None
    answers: SeriesAnswers = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def planned_requests(self) -> int:
        """The most requests that the plan takes, without retries."""
        return pages_of(self.plan)

    def series(self, symbol: str, timeframe: str) -> Answers:
        """Return what is stored of a series."""
        return self.answers.get((symbol, timeframe), {})

    def update(self, request: BackfillRequest, answers: SeriesAnswers) -> None:
        """Set what is stored after the run, and the gaps that are left; the run may have changed the request's listings."""
        self.request, self.answers = request, answers
        self.gaps = gaps_of(request, answers)


def print_errors(outcomes: Iterable[tuple[Market, Outcome | None]]) -> None:
    """Print a line for each failed run on standard error."""
    for market, outcome in outcomes:
        if outcome and outcome.error:
            sys.stderr.write(f"backfill: {market.name}: {outcome.error}\n")


def worst(*codes: int) -> int:
    """Return the worst exit code: failed, then days missing, then complete."""
    return min(codes, key=(FAILED, DAYS_MISSING, COMPLETE).index)


def exit_code(results: Sequence[MarketResult]) -> int:
    """Return 0 if complete, 1 if a run failed, 3 if sessions are missing without an explanation."""
    if any(r.outcome and not r.outcome.succeeded for r in results):
        return FAILED
    return DAYS_MISSING if any(unexplained(r.gaps) for r in results) else COMPLETE


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


def show(console: Console, results: Sequence[MarketResult]) -> None:
    """Print the bars of each symbol and timeframe with the days complete, then what is missing and when it is retried."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.request.timeframes for r in results)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("symbol")
    table.add_column("days", justify="right")
    for timeframe in shown:
        table.add_column(timeframe.name, justify="right")
    for result in results:
        still_open = {gap.symbol for gap in unexplained(result.gaps)}
        for symbol, sessions in result.request.wanted.items():
            series = [(t, result.series(symbol.name, t.name)) for t in shown if t in result.request.timeframes]
            complete = min(
                (len(sessions) - len(missing_sessions(sessions, answers)) for _, answers in series), default=0
            )
            colour = "red" if symbol.name in still_open else "green" if complete == len(sessions) else "yellow"
            bars = {t: f"{bars_of(t, sessions, answers):,}" for t, answers in series}
            days = f"[{colour}]{complete}/{len(sessions)}[/]"
            table.add_row(symbol.name, days, *(bars.get(t, "") for t in shown))
    console.print(table)
    for result in results:
        _show_missing(console, result)
    _show_next_attempt(console, [gap for result in results for gap in unexplained(result.gaps)])


def bars_of(timeframe: Timeframe, sessions: Iterable[date], answers: Answers) -> int:
    """Count the bars of sessions; a weekly bar belongs to each of its sessions and counts once."""
    found = [answers[s] for s in sessions if s in answers]
    return len({a.first for a in found if a.bars}) if timeframe == WEEK_1 else sum(a.bars for a in found)


@dataclass(frozen=True, slots=True)
class Cause:
    """Sessions that are missing for one reason; `series` has the timeframes by symbol name."""

    days: DayRange
    sessions: int
    reason: str
    explained: bool
    series: dict[str, list[str]]

    @property
    def description(self) -> str:
        """Days and the first few series: 2024-03-06 (1 session) of AAPL 1m 5m."""
        series = ", ".join(" ".join([s, *t]) for s, t in list(self.series.items())[:_SHOWN])
        more = f" and {len(self.series) - _SHOWN} more" if len(self.series) > _SHOWN else ""
        return f"{self.days} ({counted(self.sessions, 'session')}) of {series}{more}"


def causes(gaps: Iterable[Gap]) -> list[Cause]:
    """Group gaps by days and reason, whichever series they are of."""
    alike: dict[tuple[DayRange, int, str, bool], dict[str, list[str]]] = {}
    for gap in gaps:
        what = (gap.days, gap.sessions, gap.reason.value, gap.explained)
        alike.setdefault(what, {}).setdefault(gap.symbol, []).append(gap.timeframe)
    return [Cause(*what, series) for what, series in alike.items()]


def _show_missing(console: Console, result: MarketResult) -> None:
    found = causes(result.gaps)
    for cause in found[:SHOWN_CAUSES]:
        colour = "yellow" if cause.explained else "red"
        console.print(f"[{colour}]{cause.reason}[/]: {cause.description}")
    if len(found) > SHOWN_CAUSES:
        console.print(f"… and {len(found) - SHOWN_CAUSES} more: see `backfill gaps`.")


def _show_next_attempt(console: Console, still_open: Sequence[Gap]) -> None:
    if not still_open:
        return
    at = min((gap.next_attempt_at for gap in still_open if gap.next_attempt_at), default=None)
    retry = f"Next retry: {instant(at)}." if at else "No retry is scheduled."
    console.print(f"{retry} To fetch now: `backfill repair`.")


def as_json(results: Sequence[MarketResult]) -> dict[str, object]:
    """Return the results for JSON; days are ISO dates."""
    return {
        "exit_code": exit_code(results),
        "planned_requests": sum(r.planned_requests for r in results),
        "runs": [run_json(r.request.market, r.outcome) for r in results if r.outcome],
        "series": [
            _series_json(r, symbol, timeframe, sessions)
            for r in results
            for symbol, sessions in r.request.wanted.items()
            for timeframe in r.request.timeframes
        ],
    }


def run_json(market: Market, outcome: Outcome) -> dict[str, object]:
    """Return a market's run for JSON."""
    return {
        "market": market.name,
        "run_id": outcome.run_id,
        "succeeded": outcome.succeeded,
        "error": outcome.error,
    }


def _series_json(
    result: MarketResult, symbol: Symbol, timeframe: Timeframe, sessions: Sequence[date]
) -> dict[str, object]:
    answers = result.series(symbol.name, timeframe.name)
    missing = missing_sessions(sessions, answers)
    gaps = [g for g in result.gaps if (g.symbol, g.timeframe) == (symbol.name, timeframe.name)]
    explained = [g.days for g in gaps if g.explained]
    return {
        "market": result.request.market.name,
        "symbol": symbol.name,
        "timeframe": timeframe.name,
        "expected_sessions": len(sessions),
        "complete_sessions": len(sessions) - len(missing),
        "bars": bars_of(timeframe, sessions, answers),
        "missing": [s.isoformat() for s in missing],
        "explained": [s.isoformat() for s in missing if any(s in days for days in explained)],
    }
