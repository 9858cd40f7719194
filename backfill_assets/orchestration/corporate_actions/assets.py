"""Splits and dividends of a market of stocks.

Dagster reads the annotations of the bodies as objects: no `from __future__ import annotations` here.
"""

import asyncio
from datetime import timedelta

import dagster as dg
from pydantic import Field

from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, StoredAction
from backfill_assets.deployment.runs import interruptible, run_start, step_failure
from backfill_assets.domain.corporate_actions import ActionKind
from backfill_assets.domain.errors import BackfillError, SettingMistake, VendorError
from backfill_assets.domain.runs import RunKind
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import report_checks
from backfill_assets.orchestration.corporate_actions.checks import split_check_outcome, split_check_spec
from backfill_assets.orchestration.keys import OWNERS, corporate_events_key
from backfill_assets.orchestration.resources import Clock, MarketStore, PolygonApi, Watcher
from backfill_assets.pipelines.audit import recorded_run
from backfill_assets.pipelines.corporate_actions import OVERLAP, Update, update_corporate_actions

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "text", "The symbol as in the universe."),
        dg.TableColumn("kind", "text", "split or dividend."),
        dg.TableColumn("ex_date", "date", "First day in new shares, or without the dividend; New York."),
        dg.TableColumn("ratio_from", "float8", "Old shares; null for dividends."),
        dg.TableColumn("ratio_to", "float8", "New shares; null for dividends."),
        dg.TableColumn("cash_amount", "float8", "Cash a share, in shares of that day; null for splits."),
        dg.TableColumn("currency", "text", "Currency of the cash amount."),
        dg.TableColumn(
            "declared", "date", "Day of the announcement; null if the vendor has none, as in the next four columns."
        ),
        dg.TableColumn("record_date", "date", "Record date."),
        dg.TableColumn("pay_date", "date", "Payment date."),
        dg.TableColumn("frequency", "integer", "Payments a year; 0 if irregular."),
        dg.TableColumn("vendor_id", "text", "The vendor's identifier."),
        dg.TableColumn("first_seen", "timestamptz", "When the vendor first listed it."),
        dg.TableColumn("changed_at", "timestamptz", "When the row was last written."),
        dg.TableColumn("withdrawn_at", "timestamptz", "When the vendor no longer listed it; null while it is applied."),
        dg.TableColumn("size", "float8", "New shares for an old one, or cash a share."),
    ],
    constraints=dg.TableConstraints(other=["primary key (symbol, kind, ex_date, size)"]),
)


class EventsConfig(dg.Config):
    """What a run requests."""

    overlap_days: int = Field(
        default=OVERLAP.days, ge=1, le=36_525, description="Days before the last success that are requested again."
    )
    everything: bool = Field(default=False, description="Request everything since the market's first day.")


def corporate_events_asset(market: Market) -> dg.AssetsDefinition:
    """Define the splits and dividends of a market's symbols: asset `stocks/corporate_events` and the like."""
    check = split_check_spec(market)

    @dg.asset(
        key=corporate_events_key(market),
        group_name=f"{market.name}_reference",
        owners=OWNERS,
        kinds={"polygon", "postgres"},
        tags={"domain": "reference", "market": market.name},
        check_specs=[check],
        freshness_policy=dg.FreshnessPolicy.time_window(
            warn_window=timedelta(hours=26), fail_window=timedelta(hours=50)
        ),
        description=f"Splits and cash dividends of {market.name} since {market.start}, from Polygon. Bars stay raw; the view "
        "`market_data_adjusted` applies the splits.\n\n"
        "Rows of table `corporate_events`. A record that the vendor lists twice is one row; one that it no longer lists is "
        "marked withdrawn and not applied.",
        metadata={
            "dagster/table_name": "corporate_events",
            "dagster/column_schema": COLUMNS,
            "symbols": len(market.symbols),
            "time_zone": HOURS[market.kind].zone.key,
        },
    )
    async def corporate_events(  # type: ignore[no-untyped-def]  # noqa: ANN202  # as for a multi-asset
        context: dg.AssetExecutionContext,
        config: EventsConfig,
        clock: Clock,
        watcher: Watcher,
        store: MarketStore,
        polygon: PolygonApi,
    ):
        names, zone = [symbol.name for symbol in market.symbols], HOURS[market.kind].zone
        update: Update | BackfillError
        with interruptible(context), CorporateActionStore(store.url(), connections=1) as table:
            overlap = timedelta(days=config.overlap_days)
            run = run_start(context, RunKind.EVENTS, market, clock.now())
            try:
                async with polygon.client(store.url(), watcher.progress()) as vendor:
                    with recorded_run(table, run, clock.now) as record:
                        record.traffic = vendor.traffic
                        update = await update_corporate_actions(
                            table, vendor, market, clock.now, overlap=overlap, everything=config.everything
                        )
            except (VendorError, SettingMistake) as error:
                update = error
            today = clock.now().astimezone(zone).date()
            stored = await asyncio.to_thread(table.read, names)
            jumps = await asyncio.to_thread(table.split_jumps, names, today, zone)
            results = report_checks(table, clock, {check.key: split_check_outcome(jumps)})
        for result in results:
            yield result
        if isinstance(update, BackfillError):  # raised after the check: Dagster shows one without a result as failed
            raise step_failure(update) from update
        for warning in update.warnings:
            context.log.warning(warning)
        yield dg.MaterializeResult(metadata=_metadata(update, stored))

    return corporate_events


def _metadata(update: Update, stored: list[StoredAction]) -> dict[str, int | str]:
    active = [s.action.kind for s in stored if s.withdrawn_at is None]
    changes = update.changes
    return {
        "requested_since": update.since.isoformat(),
        "splits": active.count(ActionKind.SPLIT),
        "dividends": active.count(ActionKind.DIVIDEND),
        "new": len(changes.new),
        "changed": len(changes.changed),
        "withdrawn": len(changes.withdrawn),
        "returned": len(changes.returned),
        "dropped_rows": update.dropped,
        **({"warnings": " ".join(update.warnings)} if update.warnings else {}),
    }
