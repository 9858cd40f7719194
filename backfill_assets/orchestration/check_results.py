"""Results of checks: stored in a table from which alerts are sent, and returned to Dagster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.domain.alert_rules import MOST_ROWS, CheckResult
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.orchestration.resources import Clock

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

type Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """Details of a check. `name` is that of the metadata entry; only the first MOST_ROWS rows are kept."""

    name: str
    columns: Sequence[dg.TableColumn]
    rows: Sequence[tuple[Cell, ...]]

    def metadata(self) -> dg.TableMetadataValue:
        """Return the table for Dagster."""
        names = [column.name for column in self.columns]
        records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in self.rows[:MOST_ROWS]]
        return dg.MetadataValue.table(records, dg.TableSchema(list(self.columns)))

    def text(self) -> tuple[tuple[str, ...], ...]:
        """Return the table for an alert, the names of the columns first."""
        names = tuple(column.name for column in self.columns)
        return (names, *(tuple(map(str, row)) for row in self.rows[:MOST_ROWS]))


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check found.

    sentence  what was found
    severity  of a failure
    numbers   metadata, plotted where they are numbers
    repair    the command that repairs it, if there is one
    """

    passed: bool
    sentence: str
    severity: dg.AssetCheckSeverity = ERROR
    numbers: Mapping[str, dg.RawMetadataValue] = field(default_factory=dict)
    table: Table | None = None
    repair: str | None = None


def outcomes_of[Found](
    timeframes: Mapping[dg.AssetKey, Timeframe],
    selected: Iterable[dg.AssetCheckKey],
    checks: Mapping[str, Callable[[Found, Timeframe], CheckOutcome]],
    found: Found,
) -> dict[dg.AssetCheckKey, CheckOutcome]:
    """Evaluate the selected checks, in the order of their assets, on one snapshot of the data."""
    order = list(timeframes)
    return {
        key: checks[key.name](found, timeframes[key.asset_key])
        for key in sorted(selected, key=lambda k: (order.index(k.asset_key), k.name))
    }


def report_checks(
    store: Store, clock: Clock, outcomes: Mapping[dg.AssetCheckKey, CheckOutcome]
) -> list[dg.AssetCheckResult]:
    """Write the outcomes to the table `check_results`, and return them for Dagster."""
    AlertStore.beside(store).write_check_results(
        [
            CheckResult(
                key.asset_key.to_user_string(),
                key.name,
                outcome.passed,
                outcome.severity is ERROR,
                outcome.sentence,
                outcome.table.text() if outcome.table else (),
                outcome.repair,
            )
            for key, outcome in outcomes.items()
        ],
        clock.now(),
    )
    return [
        dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=outcome.passed,
            severity=outcome.severity,
            description=outcome.sentence,
            metadata={
                **outcome.numbers,
                **({outcome.table.name: outcome.table.metadata()} if outcome.table else {}),
                **({"repair": outcome.repair} if outcome.repair else {}),
            },
        )
        for key, outcome in outcomes.items()
    ]


def format_utc(at: datetime) -> str:
    """Format an instant (aware, in the zone of the database session) in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
