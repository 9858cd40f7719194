"""The catalog as a user sees it: a snapshot, so that a change of a name, group or description is a choice.

`UPDATE_SNAPSHOT=1 pytest PATH_OF_THIS_FILE` writes the snapshot again.
"""

import json
import os
from pathlib import Path

import dagster as dg

from backfill_assets_tests.dagster_harness import definitions
from backfill_assets_tests.integration.orchestration.universes import ASSETS as UNIVERSE

SNAPSHOT = Path(__file__).parent / "catalog.json"
KIND = "dagster/kind/"


def plain(value):
    if isinstance(value, dg.TableSchema):
        return {c.name: f"{c.type}: {c.description}" for c in value.columns} | {"": list(value.constraints.other)}
    return value


def partitions(definition):
    if definition is None:
        return {}
    return {
        dimension.name: {
            "first": dimension.partitions_def.get_first_partition_key(),
            "kind": type(dimension.partitions_def).__name__,
            "zone": getattr(dimension.partitions_def, "timezone", None),
        }
        for dimension in definition.partitions_defs
    }


def freshness(policy):
    return policy and {
        "warning": str(policy.warn_window.to_timedelta()),
        "failure": str(policy.fail_window.to_timedelta()),
    }


def asset(node, checks):
    return {
        "group": node.group_name,
        "kinds": sorted(t.removeprefix(KIND) for t in node.tags if t.startswith(KIND)),
        "owners": list(node.owners),
        "tags": {name: value for name, value in sorted(node.tags.items()) if not name.startswith(KIND)},
        "description": node.description,
        "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
        "partitions": partitions(node.partitions_def),
        "freshness": freshness(node.freshness_policy),
        "backfill_policy": node.backfill_policy.policy_type.value if node.backfill_policy else None,
        "metadata": {
            name: plain(getattr(value, "value", value))
            for name, value in node.metadata.items()
            if name != "dagster/code"
        },
        "checks": {spec.name: spec.description for spec in checks},
    }


def catalog(defs):
    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    checks = [graph.get_check_spec(key) for key in sorted(graph.asset_check_keys)]
    return {
        "assets": {
            key.to_user_string(): asset(graph.get(key), [c for c in checks if c.asset_key == key])
            for key in sorted(graph.get_all_asset_keys())
        },
        "jobs": {job.name: job.description for job in defs.resolve_all_job_defs() if not job.name.startswith("__")},
        "schedules": {
            s.name: {"cron": s.cron_schedule, "zone": s.execution_timezone, "description": s.description}
            | {"default": s.default_status.value}
            for s in repository.schedule_defs
        },
        "sensors": {
            s.name: {"seconds": s.minimum_interval_seconds, "description": s.description}
            | {"default": s.default_status.value}
            for s in repository.sensor_defs
        },
    }


def test_the_catalog_equals_the_snapshot():
    found = json.dumps(catalog(definitions(UNIVERSE)), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert json.loads(found) == json.loads(SNAPSHOT.read_text(encoding="utf-8"))
