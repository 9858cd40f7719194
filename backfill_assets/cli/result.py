"""What a run left behind, as a table for a person and as JSON for a program.

What lives here: both forms of one result. What does not: getting it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from rich.console import Console
from rich.table import Table

from backfill_assets.adapters.store.bars import SeriesAnswers
from backfill_assets.domain.answers import Answers, unanswered, without_bars
from backfill_assets.domain.days import runs_of
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.launch import Outcome
from backfill_assets.pipelines.ohlcv import Order

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
    """The completeness matrix, then what is missing."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.order.timeframes for r in results)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("market")
    table.add_column("symbol")
    for timeframe in shown:
        table.add_column(f"{timeframe} bars", justify="right")
        table.add_column("days", justify="right")
    for result in results:
        for symbol, sessions in result.order.wanted.items():
            row: list[str] = []
            for timeframe in shown:
                if timeframe not in result.order.timeframes:
                    row += ["", ""]
                    continue
                answers = result.of(symbol.name, timeframe.name)
                filled = len(sessions) - len(without_bars(sessions, answers))
                bars = sum(answers[s].bars for s in sessions if s in answers)
                colour = "green" if filled == len(sessions) else "red" if unanswered(sessions, answers) else "yellow"
                row += [f"{bars:,}", f"[{colour}]{filled}/{len(sessions)}[/]"]
            table.add_row(result.order.market.name, symbol.name, *row)
    console.print(table)
    for result in results:
        _show_missing(console, result)


def _show_missing(console: Console, result: MarketResult) -> None:
    """One line for all series that miss the same sessions."""
    alike: dict[tuple[tuple[date, ...], int], list[str]] = {}
    for symbol, sessions in result.order.wanted.items():
        for timeframe in result.order.timeframes:
            answers = result.of(symbol.name, timeframe.name)
            gone = without_bars(sessions, answers)
            settled = len(gone) - len(unanswered(sessions, answers))
            if gone:
                alike.setdefault((tuple(gone), settled), []).append(f"{symbol} {timeframe}")
    for (sessions_gone, settled), names in alike.items():
        ranges = runs_of(sessions_gone, result.order.calendar.sessions)
        told = ", ".join(map(str, ranges[:_SHOWN])) + _rest(len(ranges))
        note = f" (confirmed empty: {settled})" if settled else ""
        series = ", ".join(names[:_SHOWN]) + _rest(len(names))
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
            _series_json(
                r, symbol.name, timeframe.name, [s.isoformat() for s in sessions], r.of(symbol.name, timeframe.name)
            )
            for r in results
            for symbol, sessions in r.order.wanted.items()
            for timeframe in r.order.timeframes
        ],
    }


def _series_json(
    result: MarketResult, symbol: str, timeframe: str, sessions: list[str], answers: Answers
) -> dict[str, object]:
    by_day = {day.isoformat(): answer for day, answer in answers.items()}
    missing = [s for s in sessions if s not in by_day or by_day[s].bars == 0]
    return {
        "market": result.order.market.name,
        "symbol": symbol,
        "timeframe": timeframe,
        "expected_sessions": len(sessions),
        "complete_sessions": len(sessions) - len(missing),
        "bars": sum(by_day[s].bars for s in sessions if s in by_day),
        "missing": missing,
        "confirmed_empty": [s for s in missing if s in by_day and by_day[s].settled],
    }
