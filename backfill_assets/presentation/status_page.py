"""The status page and the pages of symbols."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from html import escape
from typing import Any
from urllib.parse import quote

from backfill_assets.domain.alert_history import Incident
from backfill_assets.domain.alert_messages import format_duration, ui_path
from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.domain.alerts import Severity
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.gaps import Reason, unexplained
from backfill_assets.presentation.candles import Candle, candles
from backfill_assets.presentation.page import LEGEND, cell, checks_section, market_section, table
from backfill_assets.presentation.text import instant, next_attempt

type Level = str
"""How things are: good, fair or bad, with the glyphs of _GLYPHS."""

_GLYPHS: Mapping[Level, str] = {"good": "✓", "fair": "~", "bad": "✗"}


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source of bars: its address, its rate limit (None without one), whether its key is set (None if it takes none), and
    the markets that use it, also as a witness.
    """

    source: str
    address: str
    requests_per_second: float | None
    key_is_set: bool | None
    markets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """What an archive has of a timeframe: sessions with a file, sessions without, the newest one, and bytes."""

    archive: str
    timeframe: str
    sessions: int
    missing: int
    newest: date | None
    size: int


@dataclass(frozen=True, slots=True)
class SymbolDetails:
    """More about a symbol.

    features      by timeframe: the newest bar with features (UTC), None without any, and whether any are out of date
    restatements  by timeframe and day (UTC), the last changed first: how many stored bars a later answer changed or removed,
                  and when (UTC)
    """

    features: Sequence[tuple[str, datetime | None, bool]]
    restatements: Sequence[tuple[str, date, int, datetime]]


@dataclass(frozen=True, slots=True)
class PlatformState:
    """What the page shows at `now` (UTC).

    failure    why nothing can be read; empty if it can
    daemon     what is wrong with the daemon; empty if nothing is
    incidents  open alerts
    running    runs that have not ended, and `last_runs`: rows of the record of runs
    sources    the sources of bars, see `SourceState`
    archives   what the archives have; `archive_failure`: why that cannot be read
    ui_url     of the Dagster UI
    """

    now: datetime
    failure: str = ""
    daemon: str = ""
    found: Sequence[Completeness] = ()
    checks: Sequence[CheckResult] = ()
    incidents: Sequence[Incident] = ()
    running: Sequence[Mapping[str, Any]] = ()
    last_runs: Sequence[Mapping[str, Any]] = ()
    sources: Sequence[SourceState] = ()
    archives: Sequence[ArchiveState] = ()
    archive_failure: str = ""
    ui_url: str = ""

    @property
    def verdict(self) -> tuple[Level, str]:
        """Whether everything is well: the worst thing in one sentence."""
        if self.failure or self.daemon:
            return "bad", self.failure or self.daemon
        worst = max(self.incidents, key=lambda incident: incident.finding.severity, default=None)
        if worst is not None:
            others = len(self.incidents) - 1
            more = f" {others} more {'alert is' if others == 1 else 'alerts are'} open." if others else ""
            level = "bad" if worst.finding.severity is Severity.CRITICAL else "fair"
            return level, worst.finding.sentence + more
        if wrong := [check for check in self.checks if check.wrong_data]:
            return "bad", f"Stored data are wrong: {wrong[0].sentence}"
        gaps = [g for m in self.found for g in unexplained(m.gaps) if g.reason is not Reason.FALLBACK]
        if gaps and not any(row.last_bar for market in self.found for row in market.rows):
            return "fair", "Nothing is stored yet."
        if gaps:
            due = min((gap.next_attempt_at for gap in gaps if gap.next_attempt_at), default=None)
            when = f"; next attempt (UTC): {next_attempt(due, self.now)}" if due else ""
            names = dict.fromkeys(gap.symbol for gap in gaps)
            return "fair", f"Sessions of {', '.join([*names][:5])}{' …' if len(names) > 5 else ''} are missing{when}."
        return "good", "Everything is stored, and the daemon works."


def status_body(state: PlatformState, year: int | None = None) -> str:
    """Return the body of the status page; `year` narrows the pictures."""
    parts = ["<h1>Market data</h1>", _verdict(state), _running(state)]
    parts += [
        _alerts(state),
        *(_market(market, year, "symbols/") for market in state.found),
        checks_section(state.checks),
    ]
    parts += [_archives(state), _last_runs(state), _sources(state)]
    return "\n".join(part for part in parts if part)


def symbol_body(
    state: PlatformState,
    symbol: str,
    bars: int,
    actions: Iterable[str],
    prices: Sequence[Candle],
    details: SymbolDetails,
    year: int | None = None,
) -> str:
    """Return the body of a symbol's page. The state has its row only; `actions` are sentences."""
    parts = ['<p><a href="../">Market data</a></p>', f"<h1>{escape(symbol)}</h1>", f"<p>{bars:,} bars are stored.</p>"]
    if prices:
        parts.append(f'<h3>Last sessions</h3><div class="wide">{candles(prices, f"{symbol}, daily bars")}</div>')
    for market in state.found:
        links = "".join(
            f'<a href="{escape(state.ui_url)}/assets/{quote(market.market)}/ohlcv_{name}?view=partitions">{name}</a>'
            for name in market.timeframes
        )
        parts += [_market(market, year), f"<h3>Partitions in the Dagster UI</h3><nav>{links}</nav>"]
        rows = (
            f"<tr>{cell(s.timeframe)}{cell(f'{s.counts.complete:,} of {s.counts.expected:,}')}"
            f"{cell(instant(s.last_bar) or 'none')}</tr>"
            for row in market.rows
            for s in row.series
        )
        titles = "<th>timeframe</th><th>complete sessions</th><th>last bar (UTC)</th>"
        parts.append(f"<h3>Series</h3>{table(titles, ''.join(rows))}")
    parts += [_features(details), _restatements(details)]
    if listed := "".join(f"<li>{escape(sentence)}</li>" for sentence in actions):
        parts.append(f"<h3>Splits and dividends</h3><ul>{listed}</ul>")
    return "\n".join(part for part in parts if part)


def _features(details: SymbolDetails) -> str:
    rows = "".join(
        f"<tr>{cell(timeframe)}{cell(instant(newest) or 'none')}{cell('out of date' if stale else 'up to date')}</tr>"
        for timeframe, newest, stale in details.features
    )
    return f"<h3>Features</h3>{table('<th>timeframe</th><th>newest (UTC)</th><th>state</th>', rows)}" if rows else ""


def _restatements(details: SymbolDetails) -> str:
    rows = [
        f"<tr>{cell(timeframe)}{cell(str(day))}{cell(instant(at))}{_numbers(f'{bars:,}')}</tr>"
        for timeframe, day, bars, at in details.restatements
    ]
    shown = _titled(("timeframe", "day (UTC)", "changed (UTC)"), ("bars",), rows)
    return f"<h3>Last restatements</h3>{shown}" if rows else ""


def within_year(found: Completeness, year: int | None) -> Completeness:
    """Return the sessions of a year, for a picture; all of them if there are none or the year is None."""
    if year is None:
        return found
    first, after = bisect_left(found.sessions, date(year, 1, 1)), bisect_right(found.sessions, date(year, 12, 31))
    if first == after:
        return found
    rows = tuple(replace(row, states=row.states[first:after]) for row in found.rows)
    return replace(found, sessions=found.sessions[first:after], rows=rows)


def _verdict(state: PlatformState) -> str:
    level, sentence = state.verdict
    ui = f' <a href="{escape(state.ui_url)}">Dagster UI</a>' if state.ui_url else ""
    return (
        f'<p class="verdict {level}" role="status"><b>{_GLYPHS[level]}</b>{escape(sentence)}</p>\n'
        f'<p class="faint">As of <span id="at">{instant(state.now)}</span> UTC. {LEGEND}{ui}</p>'
    )


def _running(state: PlatformState) -> str:
    rows = []
    for run in state.running:
        lasted = state.now - run["started_at"]
        minutes = lasted.total_seconds() / 60
        rate = f"{run['sessions'] / minutes:,.0f}" if run["kind"] == "ohlcv" and minutes > 0.1 else ""
        done = f"{run['sessions']:,}" if run["kind"] == "ohlcv" else ""
        sent, planned = run["requests"], run["planned_requests"]
        asked = f"{sent:,} of {planned:,}" if planned is not None else ""
        left = ""
        if planned and 0 < sent <= planned:
            left = format_duration(lasted * ((planned - sent) / sent))
        cells = (run["market"], run["kind"], run["trigger"], instant(run["started_at"]), format_duration(lasted))
        rows.append(f"<tr>{_run_link(state, run)}{''.join(map(cell, cells))}{_numbers(done, rate, asked, left)}</tr>")
    titles = ("run", "market", "kind", "started by", "since (UTC)", "for")
    numbers = ("sessions answered", "a minute", "requests", "about left")
    return f"<section>\n<h2>Running</h2>\n{_titled(titles, numbers, rows)}</section>" if rows else ""


def _alerts(state: PlatformState) -> str:
    rows = []
    for incident in state.incidents:
        finding, path = incident.finding, ui_path(incident.finding.place)
        kind = "missing" if finding.severity is Severity.CRITICAL else "partial"
        sentence = escape(finding.sentence)
        linked = f'<a href="{escape(state.ui_url + path)}">{sentence}</a>' if path and state.ui_url else sentence
        repair = f"<br><code>{escape(finding.repair)}</code>" if finding.repair else ""
        rows.append(
            f'<tr><td><b class="{kind}">✗</b>{finding.severity.word}</td><td class="text">{linked}{repair}</td>'
            f"{cell(instant(incident.opened_at))}</tr>"
        )
    titles = ("severity", "alert", "since (UTC)")
    return f"<section>\n<h2>Open alerts</h2>\n{_titled(titles, (), rows)}</section>" if rows else ""


def _market(found: Completeness, year: int | None, symbols: str = "") -> str:
    years = sorted({session.year for session in found.sessions})
    links = ""
    if len(years) > 1:
        choices = [f'<a href="?year={y}">{y}</a>' if y != year else f"<strong>{y}</strong>" for y in years]
        every = '<a href="?">all</a>' if year in years else "<strong>all</strong>"
        links = f"<nav>{every}{''.join(choices)}</nav>"
    return market_section(found, within_year(found, year), links, symbols)


def _last_runs(state: PlatformState) -> str:
    rows = []
    for run in state.last_runs:
        kind, glyph = ("complete", "✓") if run["status"] == "succeeded" else ("missing", "✗")
        kind, glyph = ("explained", "~") if run["status"] == "started" else (kind, glyph)
        took = format_duration(run["finished_at"] - run["started_at"]) if run["finished_at"] else ""
        written = f"{run['bars_written'] + run['features_written']:,}"
        cells = (run["market"], run["kind"], run["trigger"], instant(run["started_at"]), took)
        rows.append(
            f'<tr>{_run_link(state, run)}{"".join(map(cell, cells))}<td><b class="{kind}">{glyph}</b>{run["status"]}</td>'
            f'{_numbers(f"{run['requests']:,}", written)}<td class="text">{escape(run["error"] or "")}</td></tr>'
        )
    titles = ("run", "market", "kind", "started by", "started (UTC)", "took", "status")
    shown = _titled(titles, ("requests", "rows written"), rows, ("error",))
    return f"<section>\n<h2>Last runs</h2>\n{shown}</section>" if rows else ""


def _sources(state: PlatformState) -> str:
    rows = []
    for source in state.sources:
        rate = source.requests_per_second
        limit = f"{rate:g} requests a second" if rate else "no limit of requests"
        key = "" if source.key_is_set is None else "set" if source.key_is_set else "not set"
        used = ", ".join(source.markets) or "not used"
        rows.append(f"<tr>{''.join(map(cell, (source.source, source.address, limit, key, used)))}</tr>")
    shown = _titled(("source", "address", "limit", "key", "markets"), (), rows)
    return f"<section>\n<h2>Sources</h2>\n{shown}</section>" if rows else ""


def _archives(state: PlatformState) -> str:
    rows = [
        f"<tr>{cell(a.archive)}{cell(a.timeframe)}{cell(str(a.newest or 'none'))}"
        f"{_numbers(f'{a.sessions:,}', f'{a.missing:,}', f'{a.size / 1e6:,.1f}')}</tr>"
        for a in state.archives
    ]
    shown = _titled(("archive", "timeframe", "newest"), ("sessions", "missing", "MB"), rows)
    if state.archive_failure:
        shown = f"<p>{escape(state.archive_failure)}</p>"
    return f"<section>\n<h2>Archives</h2>\n{shown}</section>" if rows or state.archive_failure else ""


def _run_link(state: PlatformState, run: Mapping[str, Any]) -> str:
    name = escape(run["run_id"][:8])
    return (
        f'<td><a href="{escape(state.ui_url)}/runs/{quote(run["run_id"])}">{name}</a></td>'
        if state.ui_url
        else cell(name)
    )


def _numbers(*values: str) -> str:
    return "".join(f'<td class="number">{value}</td>' for value in values)


def _titled(titles: Iterable[str], numbers: Iterable[str], rows: Iterable[str], after: Iterable[str] = ()) -> str:
    head = [*(f"<th>{t}</th>" for t in titles), *(f'<th class="number">{n}</th>' for n in numbers)]
    return table("".join([*head, *(f"<th>{t}</th>" for t in after)]), "\n".join(rows))
