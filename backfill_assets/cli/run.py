"""`backfill run`: plan, announce the requests, fetch as a Dagster run for each market, show what is stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.bars import BarStore, SeriesAnswers
from backfill_assets.adapters.store.runs import RecordedRun, RunStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    counted,
    describe,
    duration,
    instant,
    output_console,
    plain_table,
    print_errors,
    print_json,
    progress_console,
    run_json,
    show_causes,
    show_failed_checks,
    worst,
)
from backfill_assets.cli.selection import select
from backfill_assets.domain.alert_rules import CheckResult, failed_checks
from backfill_assets.domain.answers import Answers, missing_sessions
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, Timeframe
from backfill_assets.domain.universe import Symbol, Universe
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of, plan, recorded, underived
from backfill_assets.pipelines.fallbacks import fallback_calls
from backfill_assets.pipelines.listings import expected
from backfill_assets.pipelines.progress import Silent
from backfill_assets.presentation.documents import check_json, iso

_NAMED = 5
"""How many of the bars that were left out are named."""


@dataclass(slots=True)
class MarketResult:
    """A market's backfill request and what became of it.

    outcome   of its run; None if no run was needed
    answers   what is stored, as of the plan and after the run
    checks    the checks of its bars that failed when they were last evaluated, which a run does at its end
    record    what the run itself recorded, none if no run was needed
    """

    request: BackfillRequest
    plan: Sequence[ApiCall] = ()
    outcome: Outcome | None = None
    answers: SeriesAnswers = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    record: Sequence[RecordedRun] = ()

    @property
    def planned_requests(self) -> int:
        """The most requests that the plan takes, without retries."""
        return pages_of(self.plan)

    def series(self, symbol: Symbol, timeframe: Timeframe) -> Answers:
        """Return what is stored of a series."""
        return self.answers.get((symbol.name, timeframe.name), {})


def run_command(options: Options, *, features: bool = False, as_json: bool = False) -> int:
    """Run `backfill run` and return its exit code; with `features`, compute those of the range unless a run ended early."""
    settings, universe, chosen = select(options, project=True)
    results = run_markets(
        settings,
        universe,
        lambda store: [expected(store, request) for request in chosen],
        max_concurrent=options.max_concurrent,
        quiet=options.quiet,
    )
    if not features or _ended_early(results):
        show_results(results, as_json=as_json)
        return exit_code(results)
    if not as_json:
        show_results(results, as_json=False)
    from backfill_assets.cli import features as features_command  # noqa: PLC0415  # loads Dagster

    computed = features_command.compute(settings, universe, chosen, quiet=options.quiet)
    code = worst(exit_code(results), features_command.exit_code(computed))
    if as_json:
        print_json(_json(results) | {"exit_code": code, "features": features_command.results_json(computed)})
        print_errors((r.request.market, r.outcome) for r in results)
        print_errors((r.request.market, r.outcome) for r in computed)
    else:
        sys.stdout.write("\n")
        features_command.show_results(computed)
    return code


def run_markets(
    settings: Settings,
    universe: Universe,
    requests: Callable[[BarStore], Sequence[BackfillRequest]],
    *,
    max_concurrent: int,
    quiet: bool,
) -> list[MarketResult]:
    """Fetch what requests, one for each market, need: a Dagster run for each market, one after the other.

    A run that fails for a reason that concerns every market is the last.
    """
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        for warning in universe.warnings():
            console.print(f"[yellow]{escape(warning)}[/]")
        store = stack.enter_context(BarStore(database.ready(settings)))
        results = [_planned(store, request) for request in requests(store)]
        _announce(console, settings, results)
        if any(r.plan for r in results):
            settings.require_key()
        _run(settings, universe, store, console, [r for r in results if r.request.days], max_concurrent)
        checked = AlertStore.beside(store).check_results()
        for result in results:
            result.checks = failed_checks(checked, result.request.market, "ohlcv", result.request.names)
            result.request = expected(store, result.request)  # the run may have looked up listings
            result.answers = recorded(store, result.request)
            result.gaps = gaps_of(result.request, result.answers)
            if result.outcome:
                result.record = RunStore.beside(store).read(run_id=result.outcome.run_id)
    return results


def _run(
    settings: Settings,
    universe: Universe,
    store: BarStore,
    console: Console,
    results: Sequence[MarketResult],
    max_concurrent: int,
) -> None:
    # Loaded after the plan is announced: Dagster takes two seconds.
    from backfill_assets.cli.progress import ProgressBars, watched  # noqa: PLC0415
    from backfill_assets.orchestration.build import build_definitions  # noqa: PLC0415
    from backfill_assets.orchestration.launch import all_materialized, open_for_runs, run_family  # noqa: PLC0415

    with ExitStack() as stack:
        instance = stack.enter_context(open_for_runs(settings, store))
        # Without requests there may still be bars to derive, or to report to Dagster, or a failed check to evaluate again.
        checked = AlertStore.beside(store).check_results()
        due = [
            r
            for r in results
            if r.plan
            or any(underived(r.request, r.answers))
            or not all_materialized(instance, r.request, r.answers)
            or any(check.wrong_data for check in failed_checks(checked, r.request.market, "ohlcv", r.request.names))
        ]
        if not due:
            return
        listener = Silent() if console.quiet else stack.enter_context(ProgressBars(console))
        defs = build_definitions(universe=universe, resources=watched(listener))
        for result in due:
            request = result.request
            config = {
                "max_concurrent": max_concurrent,
                "refresh": request.refresh.name,
                "retry": request.retry.name,
            }
            result.outcome = run_family(instance, defs, settings, request, "ohlcv", config)
            if result.outcome.concerns_every_market:
                break


def _planned(store: BarStore, request: BackfillRequest) -> MarketResult:
    answers = recorded(store, request)
    return MarketResult(request, plan=[*plan(request, answers), *fallback_calls(store, request)], answers=answers)


def _announce(console: Console, settings: Settings, results: Sequence[MarketResult]) -> None:
    for result in results:
        market = result.request.market.name
        if result.request.wanted:
            planned = counted(result.planned_requests, "request")
            console.print(f"{market}: {describe(result.request)}: {planned}")
        else:  # a repair without gaps
            console.print(f"{market}: nothing to fetch")
    total, rate = sum(r.planned_requests for r in results), settings.requests_per_second
    if not total:
        console.print("No requests needed.")
    else:
        least = f": at least {duration(floor_seconds(total, rate))}" if total > rate else ""
        console.print(f"{counted(total, 'request')} at {rate:g} per second{least}.")


def show_results(results: Sequence[MarketResult], *, as_json: bool) -> None:
    """Print results on standard output and the errors of runs on standard error."""
    if as_json:
        print_json(_json(results))
    elif not any(r.request.wanted for r in results):
        sys.stdout.write("No unexplained gaps.\n")
    elif not _ended_early(results):
        _show(output_console(), results)
    if not as_json and not _ended_early(results):
        show_failed_checks(output_console(), (c for r in results for c in r.checks if c.wrong_data))
    print_errors((r.request.market, r.outcome) for r in results)


def exit_code(results: Sequence[MarketResult]) -> int:
    """Return 0 if complete, 1 if a run failed, 2 for a wrong setting, 3 if gaps are unexplained or data are wrong."""
    incomplete = any(unexplained(r.gaps) or any(c.wrong_data for c in r.checks) for r in results)
    return worst(DAYS_MISSING if incomplete else COMPLETE, *(r.outcome.exit_code for r in results if r.outcome))


def _ended_early(results: Sequence[MarketResult]) -> bool:
    return any(r.outcome and r.outcome.ended_early for r in results)


def _show(console: Console, results: Sequence[MarketResult]) -> None:
    """Print the bars of each symbol and timeframe with the days complete, then what is missing and when it is retried."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.request.timeframes for r in results)]
    numbers = ["days", *(t.name for t in shown)]
    table = plain_table("symbol", *numbers, right=numbers)
    for result in results:
        still_open = {gap.symbol for gap in unexplained(result.gaps)}
        for symbol, sessions in result.request.wanted.items():
            series = {t: result.series(symbol, t) for t in result.request.timeframes}
            missing = max(
                (len(missing_sessions(result.request.expected(symbol, t), series[t])) for t in series), default=0
            )
            colour = "red" if symbol.name in still_open else "yellow" if missing else "green"
            days = f"[{colour}]{len(sessions) - missing}/{len(sessions)}[/]"
            bars = (f"{_bars_of(t, sessions, series[t]):,}" if t in series else "" for t in shown)
            table.add_row(symbol.name, days, *bars)
    console.print(table)
    _show_rejected(console, results)
    for result in results:
        show_causes(console, result.gaps, lambda cause: f"{cause.reason}[/]: {cause.description}")
    if still_missing := [gap for result in results for gap in unexplained(result.gaps)]:
        at = min((gap.next_attempt_at for gap in still_missing if gap.next_attempt_at), default=None)
        due = instant(at) if at and at > datetime.now(UTC) else "now"
        retry = f"Next retry: {due}." if at else "No retry is scheduled."
        console.print(f"{retry} To fetch now: `backfill repair`.")


def _show_rejected(console: Console, results: Sequence[MarketResult]) -> None:
    total = sum(row["bars_rejected"] for result in results for run in result.record for row in run.series)
    if not total:
        return
    console.print(f"[yellow]{counted(total, 'invalid bar')} rejected[/]:")
    for row in _rejected(results)[:_NAMED]:
        console.print(f"  {row['symbol']} {row['timeframe']} {instant(row['start'])}: {row['reason']}")
    if total > _NAMED:
        console.print(f"  and {total - _NAMED} more: `backfill report --last`")


def _rejected(results: Sequence[MarketResult]) -> list[Mapping[str, Any]]:
    return [row for result in results for run in result.record for row in run.rejected]


def _bars_of(timeframe: Timeframe, sessions: Iterable[date], answers: Answers) -> int:
    """Count the bars of sessions; a weekly bar belongs to each of its sessions and counts once."""
    found = [answers[s] for s in sessions if s in answers]
    return len({a.first for a in found if a.bars}) if timeframe == WEEK_1 else sum(a.bars for a in found)


def _json(results: Sequence[MarketResult]) -> dict[str, object]:
    """Return the results for JSON; days are ISO dates."""
    return {
        "exit_code": exit_code(results),
        "planned_requests": sum(r.planned_requests for r in results),
        "runs": [run_json(r.request.market, r.outcome) for r in results if r.outcome],
        "failed_checks": [check_json(check) for r in results for check in r.checks],
        "series": [
            _series_json(r, symbol, timeframe, r.request.expected(symbol, timeframe))
            for r in results
            for symbol in r.request.wanted
            for timeframe in r.request.timeframes
        ],
        "rejected_bars": [
            {key: row[key] for key in ("market", "symbol", "timeframe", "reason")}
            | {"session": row["session"].isoformat(), "start": iso(row["start"])}
            for row in _rejected(results)
        ],
    }


def _series_json(
    result: MarketResult, symbol: Symbol, timeframe: Timeframe, sessions: Sequence[date]
) -> dict[str, object]:
    answers = result.series(symbol, timeframe)
    missing = missing_sessions(sessions, answers)
    gaps = [g for g in result.gaps if (g.symbol, g.timeframe) == (symbol.name, timeframe.name)]
    explained = [g.days for g in gaps if g.explained]
    return {
        "market": result.request.market.name,
        "symbol": symbol.name,
        "timeframe": timeframe.name,
        "expected_sessions": len(sessions),
        "complete_sessions": len(sessions) - len(missing),
        "bars": _bars_of(timeframe, sessions, answers),
        "missing": [s.isoformat() for s in missing],
        "explained": [s.isoformat() for s in missing if any(s in days for days in explained)],
    }
