"""The tags of runs and backfills."""

TRIGGER_TAG = "backfill/trigger"
"""What started the run."""

# The Dagster UI hides tags that begin with a dot.
HOST_TAG = ".dagster/backfill_host"
PROCESS_TAG = ".dagster/backfill_process"
"""The process that executes the run, if it is a command's own."""

LAUNCHED_ON_TAG = ".dagster/backfill_launched_on"
"""The machine on which the daemon launched the run, if it did so in a local process."""

REPAIR_TAG = "backfill/repair"
"""The market, on backfills that repair gaps."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Dagster's own: two corners of the rectangle of partitions of a run."""

PARTITION_TAG = "dagster/partition"
"""Dagster's own: the partition of a run that has only one."""

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

WILL_RETRY_TAG = "dagster/will_retry"
"""Dagster's own, on failed runs: whether the daemon retries it, `true` or `false`."""
