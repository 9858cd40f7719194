"""What a run left behind, as a table for a person and as JSON for a program.

What lives here: both forms of one result. What does not: getting it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from rich.console import Console
from rich.table import Table

from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.domain.answers import Answers, unanswered, without_bars
from backfill_assets.domain.days import runs_of
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, Timeframe
from backfill_assets.domain.universe import Symbol
from backfill_assets.launch import Outcome
from backfill_assets.pipelines.orders import Order

COMPLETE, FAILED, DAYS_MISSING = 0, 1, 3
_SHOWN = 4


@dataclass(slots=True)
class MarketResult:
    """One order, what came of its run (None: nothing had to run), and what stands recorded afterwards."""

    order: Order
    requests: int
    outcome: Outcome | None = None
    answers: SeriesAnswers = field(default_factory=dict)

    def of(self, symbol: str, timeframe: str) -> Answers:
        """What stands recorded of a series."""
        return self.answers.get((symbol, timeframe), {})


def exit_code(results: Sequence[MarketResult]) -> int:
    """0 complete, 1 a run failed, 3 sessions are missing that were not confirmed empty."""
    if any(r.outcome and not r.outcome.succeeded for r in results):
        return FAILED
    still_open = any(
        unanswered(sessions, r.of(symbol.name, timeframe.name))
        for r in results
        for symbol, sessions in r.order.wanted.items()
        for timeframe in r.order.timeframes
    )
    return DAYS_MISSING if still_open else COMPLETE


def spelled(seconds: float) -> str:
    """A duration for a person: 4 s, 1:05 min, 2:30 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    return f"{minutes}:{seconds:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def counted(number: int, thing: str) -> str:
    """A number with its noun: 1 session, 2 sessions."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def show(console: Console, results: Sequence[MarketResult]) -> None:
    """The completeness matrix (bars a symbol and timeframe, days complete of those expected), then what is missing."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.order.timeframes for r in results)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("symbol")
    table.add_column("days", justify="right")
    for timeframe in shown:
        table.add_column(timeframe.name, justify="right")
    for result in results:
        for symbol, sessions in result.order.wanted.items():
            series = [(t, result.of(symbol.name, t.name)) for t in shown if t in result.order.timeframes]
            complete = min((len(sessions) - len(without_bars(sessions, answers)) for _, answers in series), default=0)
            still_open = any(unanswered(sessions, answers) for _, answers in series)
            colour = "green" if complete == len(sessions) else "red" if still_open else "yellow"
            bars = {t: f"{bars_of(t, sessions, answers):,}" for t, answers in series}
            days = f"[{colour}]{complete}/{len(sessions)}[/]"
            table.add_row(symbol.name, days, *(bars.get(t, "") for t in shown))
    console.print(table)
    for result in results:
        _show_missing(console, result)


def bars_of(timeframe: Timeframe, sessions: Iterable[date], answers: Answers) -> int:
    """How many bars the sessions have; a weekly bar, which each of its sessions has, counts once."""
    found = [answers[s] for s in sessions if s in answers]
    return len({a.first for a in found if a.bars}) if timeframe == WEEK_1 else sum(a.bars for a in found)


def _show_missing(console: Console, result: MarketResult) -> None:
    """One line for all series that miss the same sessions."""
    alike: dict[tuple[tuple[date, ...], int], dict[str, list[str]]] = {}
    for symbol, sessions in result.order.wanted.items():
        for timeframe in result.order.timeframes:
            answers = result.of(symbol.name, timeframe.name)
            gone = without_bars(sessions, answers)
            settled = len(gone) - len(unanswered(sessions, answers))
            if gone:
                alike.setdefault((tuple(gone), settled), {}).setdefault(symbol.name, []).append(timeframe.name)
    for (sessions_gone, settled), names in alike.items():
        ranges = runs_of(sessions_gone, result.order.calendar.sessions)
        told = ", ".join(map(str, ranges[:_SHOWN])) + _rest(len(ranges))
        note = f" (confirmed empty: {settled})" if settled else ""
        series = ", ".join([" ".join([s, *t]) for s, t in list(names.items())[:_SHOWN]]) + _rest(len(names))
        console.print(f"[yellow]No bars for {counted(len(sessions_gone), 'session')}[/] of {series}: {told}{note}")


def _rest(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""


def as_json(results: Sequence[MarketResult]) -> dict[str, object]:
    """The same for a program; days are ISO dates."""
    return {
        "exit_code": exit_code(results),
        "planned_requests": sum(r.requests for r in results),
        "runs": [
            {
                "market": r.order.market.name,
                "run_id": r.outcome.run_id,
                "succeeded": r.outcome.succeeded,
                "error": r.outcome.error,
            }
            for r in results
            if r.outcome
        ],
        "series": [
            _series_json(r, symbol, timeframe, sessions)
            for r in results
            for symbol, sessions in r.order.wanted.items()
            for timeframe in r.order.timeframes
        ],
    }


def _series_json(
    result: MarketResult, symbol: Symbol, timeframe: Timeframe, sessions: Sequence[date]
) -> dict[str, object]:
    answers = result.of(symbol.name, timeframe.name)
    missing = without_bars(sessions, answers)
    return {
        "market": result.order.market.name,
        "symbol": symbol.name,
        "timeframe": timeframe.name,
        "expected_sessions": len(sessions),
        "complete_sessions": len(sessions) - len(missing),
        "bars": bars_of(timeframe, sessions, answers),
        "missing": [s.isoformat() for s in missing],
        "confirmed_empty": [s.isoformat() for s in missing if s in answers and answers[s].settled],
    }
