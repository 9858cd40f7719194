"""The tags that the platform puts on runs."""

TRIGGER_TAG = "backfill/trigger"
"""What started the run, for a person."""

# Dagit does not show tags that begin like this: they are for programs.
HOST_TAG = ".dagster/backfill_host"
PROCESS_TAG = ".dagster/backfill_process"
"""Which process carries the run out, where that is a command's own and not one of the daemon's."""

LAUNCHED_ON_TAG = ".dagster/backfill_launched_on"
"""On which machine the daemon launched the run, where it did so in a process of its own machine."""

REPAIR_TAG = "backfill/repair"
"""On the backfills that repair gaps: the market."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Dagster's own: two corners of the rectangle of partitions that a run covers."""

PARTITION_TAG = "dagster/partition"
"""Dagster's own: the one partition that a run covers."""

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

WILL_RETRY_TAG = "dagster/will_retry"
"""Dagster's own, on a run that failed: whether the daemon starts it again, `true` or `false`."""
