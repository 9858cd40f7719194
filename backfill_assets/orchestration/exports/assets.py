"""Files of the stored bars: one multi-asset a market, one asset a timeframe. They exist only if BACKFILL_EXPORT is set.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import shlex
from collections.abc import Sequence
from datetime import date

import dagster as dg

from backfill_assets.adapters.archive.files import parse_name
from backfill_assets.adapters.archive.places import Place, place_of
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.deployment.private_api import log_materializations
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.timeframes import TIMEFRAMES, Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import CheckOutcome, Table, report_checks
from backfill_assets.orchestration.keys import EXPORT, OWNERS, export_key, ohlcv_key
from backfill_assets.orchestration.partitions import months
from backfill_assets.orchestration.resources import Clock, MarketStore
from backfill_assets.pipelines.export import Difference, Exported, Scope, differences, export

CHECK = "files_match_tables"

_COLUMNS = (
    dg.TableColumn("file", "string"),
    dg.TableColumn("symbol", "string"),
    dg.TableColumn("bars in the file", "int"),
    dg.TableColumn("bars in the table", "int"),
)


def export_assets(market: Market, where: str) -> dg.AssetsDefinition:
    """Define the files of a market: assets such as `stocks/export_1m`, partitioned by month."""
    timeframes = {export_key(market, timeframe): timeframe for timeframe in market.timeframes}

    @dg.multi_asset(
        name=f"{market.name}_{EXPORT}",
        specs=[_spec(market, timeframe, where) for timeframe in market.timeframes],
        partitions_def=months(market),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                description="The files of the run's months have the bars of the tables: their number, the first and the last "
                "of each symbol, and what their columns add up to if they are not adjusted.",
            )
            for key in timeframes
        ],
    )
    def exported(context: dg.AssetExecutionContext, clock: Clock, store: MarketStore):  # type: ignore[no-untyped-def]  # noqa: ANN202  # as for features
        place = place_of(where, Settings.read().data / "export")
        chosen, checked = context.selected_asset_keys, context.selected_asset_check_keys
        days = DayRange(market.start, clock.now().date())
        if context.has_partition_key or context.has_partition_key_range:  # not if the checks run alone
            days = DayRange(*(date.fromisoformat(keys) for keys in context.partition_key_range))
        names = tuple(symbol.name for symbol in market.symbols)
        with ExportStore(store.url(), connections=2, read_only=True) as table:
            if chosen:
                scope = Scope(market, names, tuple(timeframes[key].name for key in timeframes if key in chosen), days)
                _mark(context, place, market, export(table, place, [scope], None))
            outcomes = {}
            for check in checked:
                scope = Scope(market, names, (timeframes[check.asset_key].name,), days)
                outcomes[check] = _outcome(differences(table, place, [scope]), scope, where)
        with Store(store.url(), connections=1) as results:
            yield from report_checks(results, clock, outcomes)

    return exported


def _spec(market: Market, timeframe: Timeframe, where: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        export_key(market, timeframe),
        group_name=f"{market.name}_{EXPORT}",
        owners=OWNERS,
        kinds={"parquet"},
        tags={"domain": EXPORT, "market": market.name, "timeframe": timeframe.name},
        skippable=True,
        deps=[dg.AssetDep(ohlcv_key(market, timeframe), partition_mapping=dg.AllPartitionMapping())],
        description=f"Files of the {timeframe.description} of {market.name}, one a month, in {where}. A run writes those "
        "whose bars have changed; a partition is materialized if its month has a file. In a terminal: `backfill export`.",
        metadata={"place": where},
    )


def _mark(context: dg.AssetExecutionContext, place: Place, market: Market, done: Exported) -> None:
    """Mark the months as materialized whose files were written, or were not marked yet."""
    known: dict[dg.AssetKey, set[str]] = {}
    events = []
    for name, partition in done.partitions.items():
        _, timeframe, month = parse_name(name) or ("", "", date.min)
        key = export_key(market, TIMEFRAMES[timeframe])
        if key not in known:
            known[key] = context.instance.get_materialized_partitions(key)
        if name in done.written or month.isoformat() not in known[key]:
            metadata: dict[str, dg.RawMetadataValue] = {
                "rows": partition.rows,
                "bytes": partition.bytes,
                "file": place.url(name),
            }
            events.append(dg.AssetMaterialization(key, partition=month.isoformat(), metadata=metadata))
    log_materializations(context, events)
    context.log.info("%d files written, %d removed.", len(done.written), len(done.removed))


def _outcome(found: Sequence[Difference], scope: Scope, where: str) -> CheckOutcome:
    files = sorted({difference.name for difference in found})
    return CheckOutcome(
        not found,
        f"{len(files)} of the files do not have the bars of the tables; the first is {files[0]}."
        if found
        else f"The files of {scope.months} have the bars of the tables.",
        numbers={"files_that_differ": len(files)},
        table=Table("files", _COLUMNS, [(d.name, d.symbol, d.bars, d.stored) for d in found]) if found else None,
        repair=f"backfill export {shlex.quote(where)} --full --markets {scope.market.name}" if found else None,
    )
