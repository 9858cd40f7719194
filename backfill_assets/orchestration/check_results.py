"""What the checks of all families share: a result for each selected check, and tables for its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from backfill_assets.adapters.store.quality import InvalidBars
from backfill_assets.domain.gaps import Gap
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.pipelines.minutes import ThinSession


def results_of[Found](
    timeframes: Mapping[dg.AssetKey, Timeframe],
    selected: Iterable[dg.AssetCheckKey],
    checks: Mapping[str, Callable[[Found, Timeframe], dg.AssetCheckResult]],
    found: Found,
) -> Iterator[dg.AssetCheckResult]:
    """A result for each selected check, in the order of the assets, all from what one look found."""
    for key in sorted(selected, key=lambda k: (list(timeframes).index(k.asset_key), k.name)):
        result = checks[key.name](found, timeframes[key.asset_key])
        yield result._replace(asset_key=key.asset_key, check_name=key.name)


MOST_ROWS = 100
"""A table in an event is for a person; `backfill gaps` lists them all."""


def gap_table(gaps: Sequence[Gap]) -> dg.TableMetadataValue:
    """One row a gap, the unexplained first."""
    ordered = sorted(gaps, key=lambda g: (g.explained, g.symbol, g.days))
    records = [
        dg.TableRecord(
            {
                "symbol": g.symbol,
                "from": g.days.start.isoformat(),
                "to": g.days.end.isoformat(),
                "sessions": g.sessions,
                "reason": g.reason.value,
                "attempts": g.attempts,
                "next attempt": _next(g),
                "repair": "" if g.explained else f"backfill repair --symbols {g.symbol}",
            }
        )
        for g in ordered[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("from", "string", "First session of the gap."),
        dg.TableColumn("to", "string", "Last session of the gap."),
        dg.TableColumn("sessions", "int"),
        dg.TableColumn("reason", "string"),
        dg.TableColumn("attempts", "int", "How often it was asked for."),
        dg.TableColumn("next attempt", "string", "UTC; none: it was asked for often enough."),
        dg.TableColumn("repair", "string", "Asks for it at once."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _next(gap: Gap) -> str:
    if gap.next_attempt_at is None or gap.explained:
        return "none"
    return spelled(gap.next_attempt_at)


def spelled(at: datetime) -> str:
    """An instant (aware; a database tells it in its own zone) for a person, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def thin_table(thin: Sequence[ThinSession]) -> dg.TableMetadataValue:
    """One row a session, the newest first."""
    records = [
        dg.TableRecord({"symbol": t.symbol, "session": t.session.isoformat(), "minutes": t.bars, "likely": t.likely})
        for t in sorted(thin, key=lambda t: (t.session, t.symbol), reverse=True)[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("session", "string"),
        dg.TableColumn("minutes", "int", "Minute bars that are stored."),
        dg.TableColumn("likely", "int", "By the sessions around it."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def invalid_table(invalid: Sequence[InvalidBars]) -> dg.TableMetadataValue:
    """One row a series and broken rule."""
    records = [
        dg.TableRecord(
            {"symbol": i.symbol, "rule": i.rule, "bars": i.bars, "first": f"{i.first:%Y-%m-%d %H:%M:%S} UTC"}
        )
        for i in invalid[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("rule", "string", "What is wrong."),
        dg.TableColumn("bars", "int"),
        dg.TableColumn("first", "string", "Start of the first of them."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
