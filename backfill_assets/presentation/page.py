"""Completeness as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from backfill_assets.domain.alert_rules import CheckResult, merge_checks
from backfill_assets.domain.completeness import Completeness, Row, SeriesCompleteness, SessionState
from backfill_assets.domain.gaps import Gap, Reason, merge_timeframes, repair_command, unexplained
from backfill_assets.domain.timeframes import ranges
from backfill_assets.presentation.calendar import css, drawing, grid_of, legend
from backfill_assets.presentation.text import GLYPHS, instant, next_attempt, percent, span, summary

MAX_GAPS = 500
"""Maximum rows per market; `backfill gaps` lists all."""


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FILE_POLICY = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
LEGEND = (
    '<b class="complete">✓</b>complete &nbsp; <b class="fallback">◆</b>from a fallback &nbsp; '
    '<b class="explained">~</b>explained &nbsp; <b class="missing">✗</b>open gaps.\n'
    "Shares are of expected sessions that are complete. A session is complete if it is complete in all timeframes."
)


def page(found: Sequence[Completeness], checks: Sequence[CheckResult] = ()) -> str:
    """Return the page of markets measured at the same time, and of failed checks, for a file."""
    at = max((instant(f.at) for f in found), default="")
    body = ["<h1>Completeness</h1>", f'<p class="faint">As of {at} UTC. {LEGEND}</p>']
    body += [*map(market_section, found), checks_section(checks)]
    return framed(f"Completeness: {', '.join(f.market for f in found)}", "\n".join(body), policy=_FILE_POLICY)


def framed(
    title: str, body: str, *, policy: str = "", script: str = "", nonce: str = "", data: Mapping[str, str] | None = None
) -> str:
    """Return a page.

    script  is run at its end; `data` are the `data-` attributes of its element
    nonce   of style sheet and script in the server's policy
    """
    frame = files("backfill_assets.presentation").joinpath("page.html").read_text(encoding="utf-8")
    nonce = f' nonce="{nonce}"' if nonce else ""
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in (data or {}).items())
    return Template(frame).substitute(
        title=escape(title),
        css=css(),
        body=body,
        policy=policy,
        nonce=nonce,
        script=f"<script{nonce}{attributes}>{script}</script>" if script else "",
    )


def checks_section(checks: Sequence[CheckResult]) -> str:
    """Return the table of failed checks, empty without any."""
    if not checks:
        return ""
    titles = "".join(f"<th>{t}</th>" for t in ("failed check", "asset", "what", "checked (UTC)"))
    rows = (
        f'<tr><td><b class="missing">✗</b>{escape(c.check)}</td>{cell(c.asset)}<td class="text">{escape(c.sentence)}</td>'
        f"{cell(instant(c.checked_at))}</tr>"
        for c in merge_checks(checks)
    )
    return f"<section>\n<h2>Failed checks</h2>\n{table(titles, chr(10).join(rows))}</section>"


def market_section(
    found: Completeness, pictured: Completeness | None = None, links: str = "", symbols: str = ""
) -> str:
    """Return a market: its picture, a table of its symbols, its gaps.

    pictured  what the picture shows, if that is less
    links     HTML below the picture
    symbols   where the pages of symbols are, if there are any
    """
    label, grid = f"{span(found)}: {summary(found.counts)}", grid_of(pictured or found)
    parts = [
        f"<section>\n<h2>{escape(found.market)}</h2>",
        f"<p>{escape(label)}.</p>",
        f'<div class="wide">{drawing(grid, label)}</div>{legend(grid)}{links}',
        _matrix(found, symbols),
        _gaps(found),
    ]
    return "\n".join([*parts, "</section>"])


def _matrix(found: Completeness, symbols: str) -> str:
    head = ["symbol", *found.timeframes]
    numbers = ["open gaps", "explained", "partial", "missing"]
    titles = "".join(f"<th>{escape(n)}</th>" for n in head) + "".join(f'<th class="number">{n}</th>' for n in numbers)
    rows = "\n".join(_symbol(row, found.at, symbols) for row in found.rows)
    return table(f"{titles}<th>last bar (UTC)</th><th>next attempt (UTC)</th>", rows)


def _symbol(row: Row, at: datetime, symbols: str) -> str:
    counts = row.counts
    numbers = (len(merge_timeframes(row.open_gaps)), counts.explained, counts.partial, counts.missing)
    link = f'<td><a href="{symbols}{quote(row.symbol, safe="")}">{escape(row.symbol)}</a></td>'
    cells = [link if symbols else cell(row.symbol), *(f"<td>{_share(s)}</td>" for s in row.series)]
    cells += [f'<td class="number">{n:,}</td>' for n in numbers]
    due = next_attempt(row.next_attempt_at, at) if row.open_gaps else ""
    return f"<tr>{''.join(cells)}{cell(instant(row.last_bar) or 'none')}{cell(due)}</tr>"


def _share(series: SeriesCompleteness) -> str:
    counts = series.counts
    kind = counts.worst.label
    share = "" if counts.complete == counts.expected else percent(counts, tenths=False)
    glyph = f'<b class="{kind.replace(" ", "-")}">{GLYPHS[counts.worst]}</b>'
    return f'<span title="{counts.complete:,} of {counts.expected:,} sessions complete">{glyph}{share}</span>'


def _gaps(found: Completeness) -> str:
    if not found.gaps:
        return '<p class="faint">Nothing is missing.</p>'
    merged = merge_timeframes(found.gaps)
    titles = "".join(f"<th>{t}</th>" for t in ("symbol", "timeframes", "from", "to"))
    titles += '<th class="number">sessions</th><th>reason</th><th class="number">attempts</th>'
    titles += "<th>next attempt (UTC)</th><th>detail</th>"
    rows = "\n".join(_gap(gap, timeframes, found.at) for gap, timeframes in merged[:MAX_GAPS])
    parts = ["<h3>Gaps</h3>"]
    if command := repair_command((gap.symbol for gap in unexplained(found.gaps)), found.market):
        parts.append(f"<p>To fetch the open gaps now: <code>{escape(command)}</code></p>")
    parts.append(table(titles, rows))
    if len(merged) > MAX_GAPS:
        parts.append(f'<p class="faint">… and {len(merged) - MAX_GAPS:,} more: see <code>backfill gaps</code>.</p>')
    return "\n".join(parts)


def _gap(gap: Gap, timeframes: Iterable[str], at: datetime) -> str:
    kind, glyph = ("explained", "~") if gap.explained else ("missing", "✗")
    if gap.reason is Reason.FALLBACK:
        kind, glyph = "fallback", GLYPHS[SessionState.FALLBACK]
    due = "explained" if gap.explained else next_attempt(gap.next_attempt_at, at)
    cells = [cell(text) for text in (gap.symbol, ranges(timeframes), f"{gap.days.start}", f"{gap.days.end}")]
    cells.append(f'<td class="number">{gap.sessions:,}</td>')
    cells.append(f'<td><b class="{kind}">{glyph}</b>{escape(gap.reason.value)}</td>')
    cells.append(f'<td class="number">{gap.attempts}</td>{cell(due)}<td class="text">{escape(gap.detail)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def cell(text: str) -> str:
    """Return a cell of a table."""
    return f"<td>{escape(text)}</td>"


def table(head: str, rows: str) -> str:
    """Return a table of rows and titles in HTML, in a box that can be scrolled."""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'
