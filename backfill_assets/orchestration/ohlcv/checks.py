"""The checks of the OHLCV assets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import dagster as dg

from backfill_assets.domain.gaps import (
    ERROR_ABOVE,
    WARN_ABOVE,
    Gap,
    Reason,
    missing_gaps,
    most_missing_sessions,
    repair_command,
    unexplained,
)
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.sources import POLYGON_FILES, fallbacks
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe, sources
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import ERROR, WARN, CheckOutcome, Table, format_utc
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.pipelines.health import Health

_DESCRIPTIONS = {
    "no_missing_sessions": f"Unexplained missing sessions of a symbol: more than {WARN_ABOVE} is a warning, more than "
    f"{ERROR_ABOVE} an error. Partial sessions are listed here and judged by minutes_are_complete.",
    "bars_are_valid": "Prices are positive and between low and high, volume is not negative, timestamps are on the grid and "
    "within the session's hours. Examines the last 35 days, and the days of the run.",
    "minutes_are_complete": "No session is missing minutes, judged by the symbol's other sessions and by its own hours. "
    "Sessions that cannot be judged yet are counted.",
    "ticker_is_known": "The vendor knows the ticker of every symbol. One without bars is looked up after a run.",
    "one_company": "All bars of a symbol are those of one company: none is from before the ticker was this company's, and "
    "the price is about the same after a long hole, splits considered.",
    "latest_session_is_here": "Every symbol has the last session that finished at least six hours ago, and not only a part.",
    "prices_are_plausible": "No price is far outside the day's range and the prices of the bars around it, and the minutes "
    "of a session are within the range of its daily bar. Examines the same days as bars_are_valid.",
    "bars_are_the_vendors": "No session has the bars of a fallback. The vendor is asked again until it has confirmed that "
    "it has none; its bars replace the fallback's.",
    "sources_agree": "Daily closes, highs and lows are those of the witness, within what is usual for the symbol, and the "
    "witness has no bar of a session that is empty here.",
    "files_agree_with_rest": "Bars of the REST API are those of the flat files, by time, prices and volume. A session that "
    "differs was requested again; the bars of the REST API stay.",
}


_LIMITED: dict[str, Callable[[Market], Sequence[Timeframe]]] = {
    "minutes_are_complete": lambda _: [MINUTE_1],
    "prices_are_plausible": lambda market: sources(market.timeframes),
    "ticker_is_known": lambda market: sources(market.timeframes)[:1],
    "files_agree_with_rest": lambda market: sources(market.timeframes) if POLYGON_FILES in market.sources else [],
    "bars_are_the_vendors": lambda market: sources(market.timeframes) if fallbacks(market.sources) else [],
    "sources_agree": lambda market: [DAY_1] if market.witness and DAY_1 in market.timeframes else [],
    "one_company": lambda market: [DAY_1] if market.kind is Kind.STOCKS else [],
}
"""The timeframes of a market that have a check, if not all."""


def ohlcv_check_specs(market: Market) -> list[dg.AssetCheckSpec]:
    """Return the checks of all timeframes of a market."""
    return [
        dg.AssetCheckSpec(name, asset=ohlcv_key(market, timeframe), description=_DESCRIPTIONS[name])
        for timeframe in market.timeframes
        for name in _DESCRIPTIONS
        if name not in _LIMITED or timeframe in _LIMITED[name](market)
    ]


def _no_missing_sessions(health: Health, timeframe: Timeframe) -> CheckOutcome:
    gaps = [g for g in health.gaps if g.timeframe == timeframe.name]
    missing = missing_gaps(gaps)
    most = most_missing_sessions(missing)
    return CheckOutcome(
        most <= WARN_ABOVE,
        f"{_counted(len(missing), 'open gap')}; up to {_counted(most, 'session')} missing per symbol."
        if missing
        else "No session is missing without explanation.",
        ERROR if most > ERROR_ABOVE else WARN,
        {
            "missing_sessions": sum(g.sessions for g in missing),
            "explained_sessions": sum(g.sessions for g in gaps if g.explained),
            "symbols_affected": len({g.symbol for g in missing}),
        },
        gap_table(gaps) if gaps else None,
        repair_command((g.symbol for g in unexplained(gaps)), health.market) or None,
    )


def gap_table(gaps: Sequence[Gap]) -> Table:
    """Return one row a gap, unexplained gaps first."""
    return Table(
        "gaps",
        (
            dg.TableColumn("symbol", "string"),
            dg.TableColumn("from", "string", "First session of the gap."),
            dg.TableColumn("to", "string", "Last session of the gap."),
            dg.TableColumn("sessions", "int"),
            dg.TableColumn("reason", "string"),
            dg.TableColumn("detail", "string", "Adds to the reason; may be empty."),
            dg.TableColumn("attempts", "int"),
            dg.TableColumn("next attempt", "string", "UTC; none if it is not retried."),
            dg.TableColumn("repair", "string", "Fetches it now."),
        ),
        [
            (
                g.symbol,
                g.days.start.isoformat(),
                g.days.end.isoformat(),
                g.sessions,
                g.reason.value,
                g.detail,
                g.attempts,
                "none" if g.next_attempt_at is None or g.explained else format_utc(g.next_attempt_at),
                "" if g.explained else repair_command([g.symbol]),
            )
            for g in sorted(gaps, key=lambda g: (g.explained, g.symbol, g.days))
        ],
    )


def _bars_are_valid(health: Health, timeframe: Timeframe) -> CheckOutcome:
    examined = health.examined
    invalid = [i for i in examined.invalid if i.timeframe == timeframe.name]
    bars, broken = examined.bars.get(timeframe.name, 0), sum(i.bars for i in invalid)
    if broken:
        first = invalid[0]
        sentence = (
            f"{_counted(broken, 'broken rule')} in {_counted(bars, 'bar')}; first {first.symbol} at "
            f"{format_utc(first.first)}: {first.rule}."
        )
    else:
        sentence = f"{bars:,} bars are valid." if bars else "There are no bars to examine."
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("rule", "string", "What is wrong."),
        dg.TableColumn("bars", "int"),
        dg.TableColumn("first", "string", "Start of the first of them."),
    )
    rows = [(i.symbol, i.rule, i.bars, f"{i.first:%Y-%m-%d %H:%M:%S} UTC") for i in invalid]
    return CheckOutcome(
        not invalid,
        sentence,
        ERROR,
        {
            "examined_bars": f"{bars:,}",  # text, so that it is not plotted: the number depends on the run's length
            "examined_days": ", ".join(map(str, examined.days)),
            "broken_rules": broken,
        },
        Table("invalid", columns, rows) if invalid else None,
    )


def _minutes_are_complete(health: Health, timeframe: Timeframe) -> CheckOutcome:
    unconfirmed = {
        (gap.symbol, day)
        for gap in health.gaps
        if gap.timeframe == timeframe.name and gap.reason is Reason.PARTIAL and not gap.explained
        for day in gap.days
    }
    thin, unjudged = health.minutes.thin, health.minutes.unjudged
    partial = sum((t.symbol, t.session) in unconfirmed for t in thin)
    cannot = sum(unjudged.values())
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("session", "string"),
        dg.TableColumn("minutes", "int", "Stored minute bars."),
        dg.TableColumn("likely", "int", "Expected from the sessions around it."),
        dg.TableColumn("because", "string", "Why it is judged to be partial."),
    )
    newest_first = sorted(thin, key=lambda t: (t.session, t.symbol), reverse=True)
    rows = [(t.symbol, t.session.isoformat(), t.bars, t.likely or "", t.because) for t in newest_first]
    if partial:
        symbol, session, because = next(
            (t.symbol, t.session, t.because) for t in thin if (t.symbol, t.session) in unconfirmed
        )
        sentence = f"Minutes are missing within {_counted(partial, 'session')}; first {symbol} on {session}: {because}."
    elif thin:
        sentence = "The vendor has confirmed all partial sessions."
    else:
        sentence = "No session that can be judged is missing minutes." if cannot else "No session is missing minutes."
    numbers: dict[str, dg.RawMetadataValue] = {
        "partial_sessions": partial,
        "confirmed_partial_sessions": len(thin) - partial,
        "unjudged_sessions": cannot,
    }
    if cannot:
        sentence += f" {_counted(cannot, 'session')} cannot be judged yet: too few others, or too few minutes."
        numbers["unjudged"] = ", ".join(f"{symbol}: {sessions:,}" for symbol, sessions in unjudged.items())
    return CheckOutcome(
        not partial,
        sentence,
        WARN,
        numbers,
        Table("sessions", columns, rows) if rows else None,
    )


def _ticker_is_known(health: Health, timeframe: Timeframe) -> CheckOutcome:  # noqa: ARG001  # the same for all
    return _of_symbols(health.unknown, "Polygon knows the tickers of all symbols.", ERROR)


def _one_company(health: Health, timeframe: Timeframe) -> CheckOutcome:  # noqa: ARG001  # of the daily bars
    return _of_symbols(health.mixed, "No symbol has bars of another company.", WARN)


def _of_symbols(wrong: Sequence[tuple[str, str]], fine: str, severity: dg.AssetCheckSeverity) -> CheckOutcome:
    columns = (dg.TableColumn("symbol", "string"), dg.TableColumn("finding", "string"))
    return CheckOutcome(
        not wrong,
        f"{'; '.join(f'{symbol}: {finding}' for symbol, finding in wrong[:3])}." if wrong else fine,
        severity,
        {"symbols_affected": len({symbol for symbol, _ in wrong})},
        Table("symbols", columns, list(wrong)) if wrong else None,
    )


def _latest_session_is_here(health: Health, timeframe: Timeframe) -> CheckOutcome:
    if health.newest is None:
        return CheckOutcome(passed=True, sentence="No session has finished yet.")
    lacking = {
        "missing": health.without_newest(timeframe.name),
        "partial": health.without_newest(timeframe.name, partial=True),
    }
    numbers: dict[str, dg.RawMetadataValue] = {
        "session": health.newest.isoformat(),
        "symbols_expected": len(health.expected),
        **{f"symbols_{state}": len(symbols) for state, symbols in lacking.items()},
    }
    lacking = {state: symbols for state, symbols in lacking.items() if symbols}
    if not lacking:
        return CheckOutcome(passed=True, sentence=f"All symbols have {health.newest}.", severity=WARN, numbers=numbers)
    states = " and ".join(
        f"{state} for {len(symbols)} of {len(health.expected)} symbols" for state, symbols in lacking.items()
    )
    return CheckOutcome(
        passed=False,
        sentence=f"{health.newest} is {states}.",
        severity=ERROR if len(lacking.get("missing", ())) == len(health.expected) else WARN,
        numbers={**numbers, **{state: ", ".join(symbols) for state, symbols in lacking.items()}},
        repair=repair_command(chain(*lacking.values()), health.market),
    )


def _prices_are_plausible(health: Health, timeframe: Timeframe) -> CheckOutcome:
    outliers = [o for o in health.outliers if o.timeframe == timeframe.name]
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("time", "string", "Start of the bar."),
        dg.TableColumn("value", "float"),
        dg.TableColumn("lowest", "float", "Of the day's range and the bars around it."),
        dg.TableColumn("highest", "float", "Of the day's range and the bars around it."),
    )
    newest_first = sorted(outliers, key=lambda o: (o.at, o.symbol), reverse=True)
    rows = [(o.symbol, f"{o.at:%Y-%m-%d %H:%M} UTC", o.value, o.lowest, o.highest) for o in newest_first]
    sentence = "No price outliers."
    if rows:
        symbol, at, value, lowest, highest = rows[0]
        more = f", and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        sentence = f"{symbol} has {value:g} at {at}, expected {lowest:g} to {highest:g}{more}."
    return CheckOutcome(
        not rows, sentence, WARN, {"outliers": len(rows)}, Table("outliers", columns, rows) if rows else None
    )


def _files_agree_with_rest(health: Health, timeframe: Timeframe) -> CheckOutcome:
    found = [d for d in health.differences if (d.timeframe, d.other_source) == (timeframe.name, POLYGON_FILES)]
    counts = ("only in REST", "only in the file", "differing")
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("session", "string"),
        *(dg.TableColumn(name, "int", "Bars.") for name in counts),
        dg.TableColumn("first", "string", "The first of them."),
    )
    rows = [
        (each.symbol, each.session.isoformat(), of.only_stored, of.only_other, of.differing, of.example)
        for each in found
        for of in (each.difference,)
    ]
    sentence = "No session differs from its flat file."
    if found:
        sentence = (
            f"{_counted(len(found), 'session')} {'differs' if len(found) == 1 else 'differ'} from the flat file; newest "
            f"{found[0].symbol} on {found[0].session}, at {found[0].difference.example}."
        )
    table = Table("differences", columns, rows) if rows else None
    return CheckOutcome(not found, sentence, WARN, {"differing_sessions": len(found)}, table)


def _bars_are_the_vendors(health: Health, timeframe: Timeframe) -> CheckOutcome:
    gaps = [g for g in health.gaps if g.timeframe == timeframe.name and g.reason is Reason.FALLBACK]
    filled = sum(g.sessions for g in gaps)
    return CheckOutcome(
        not gaps,
        f"{_counted(filled, 'session')} of {_counted(len({g.symbol for g in gaps}), 'symbol')} from a fallback; first "
        f"{gaps[0].symbol} {gaps[0].days}: {gaps[0].detail}."
        if gaps
        else "All bars are the vendor's.",
        WARN,
        {"fallback_sessions": filled},
        gap_table(gaps) if gaps else None,
    )


def _sources_agree(health: Health, timeframe: Timeframe) -> CheckOutcome:  # noqa: ARG001  # of the daily bars
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("session", "string"),
        dg.TableColumn("field", "string"),
        dg.TableColumn("stored", "float"),
        dg.TableColumn("witness", "float"),
        dg.TableColumn("usual", "float", "The largest usual difference of the symbol, relative."),
    )
    found = health.disagreements
    rows = [(d.symbol, d.session.isoformat(), d.field, d.stored, d.witness, d.usual) for d in found]
    sentence = f"{_counted(health.witnessed, 'session')} of the witness {_agree(health.witnessed)}."
    if found:
        first, wrong = found[0], len({(d.symbol, d.session) for d in found})
        stored = "no bar" if first.stored is None else f"{first.stored:.10g}"
        sentence = (
            f"{_counted(wrong, 'session')} of {health.witnessed:,} dis{_agree(wrong)}; newest "
            f"{first.symbol} on {first.session}: {first.field} is {stored}, of the witness {first.witness:.10g}."
        )
    numbers: dict[str, dg.RawMetadataValue] = {"compared_sessions": health.witnessed, "disagreements": len(found)}
    return CheckOutcome(not found, sentence, WARN, numbers, Table("disagreements", columns, rows) if rows else None)


def _agree(number: int) -> str:
    return "agrees" if number == 1 else "agree"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


CHECKS: dict[str, Callable[[Health, Timeframe], CheckOutcome]] = {
    "no_missing_sessions": _no_missing_sessions,
    "bars_are_valid": _bars_are_valid,
    "minutes_are_complete": _minutes_are_complete,
    "ticker_is_known": _ticker_is_known,
    "one_company": _one_company,
    "latest_session_is_here": _latest_session_is_here,
    "prices_are_plausible": _prices_are_plausible,
    "bars_are_the_vendors": _bars_are_the_vendors,
    "sources_agree": _sources_agree,
    "files_agree_with_rest": _files_agree_with_rest,
}
