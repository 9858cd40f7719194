"""The definitions inside another Dagster project."""

import subprocess
import sys

import dagster as dg
import pytest

import backfill_assets
from backfill_assets.orchestration.build import build_definitions
from backfill_assets_tests.dagster_harness import QUIET, FixedClock
from backfill_assets_tests.integration.orchestration.universes import ASSETS

RETURNS = dg.AssetKey(["research", "returns"])


class Warehouse(dg.ConfigurableResource):
    """A resource of the other project."""

    def read(self) -> float:
        return 0.5


@dg.asset(key=RETURNS, deps=[dg.AssetKey(["stocks", "features_1d"])])
def returns(warehouse: Warehouse) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"read": warehouse.read()})


def theirs(**resources):
    return dg.Definitions(
        assets=[returns],
        jobs=[dg.define_asset_job("research_job", selection=dg.AssetSelection.assets(RETURNS))],
        resources={"warehouse": Warehouse(), **resources},
    )


def test_definitions_merge_with_those_of_another_project():
    ours = build_definitions(universe=ASSETS)
    merged = dg.Definitions.merge(ours, theirs())
    dg.Definitions.validate_loadable(merged)
    graph = merged.resolve_asset_graph()
    assert graph.get(RETURNS).parent_keys == {dg.AssetKey(["stocks", "features_1d"])}
    assert graph.get_all_asset_keys() == ours.resolve_asset_graph().get_all_asset_keys() | {RETURNS}
    assert {"stocks_ohlcv_job", "research_job"} <= {job.name for job in merged.resolve_all_job_defs()}
    assert set(merged.resources) == {"clock", "watcher", "store", "polygon", "warehouse"}
    with dg.DagsterInstance.ephemeral() as instance:
        job = merged.resolve_job_def("research_job")
        assert job.execute_in_process(instance=instance, run_config={"loggers": QUIET}).success


def test_a_resource_of_the_same_name_is_an_error_unless_it_is_shared():
    clock = FixedClock()
    with pytest.raises(dg.DagsterInvariantViolationError, match="different resources with same key 'clock'"):
        dg.Definitions.merge(build_definitions(universe=ASSETS), theirs(clock=clock))
    shared = dg.Definitions.merge(build_definitions(universe=ASSETS, resources={"clock": clock}), theirs(clock=clock))
    assert shared.resources["clock"] is clock


def test_the_public_api_is_loaded_on_first_use():
    assert backfill_assets.build_definitions is build_definitions
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = backfill_assets.nothing
    code = "import sys; import backfill_assets; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
