"""The tags that the platform puts on runs.

What lives here: their names. What does not: who sets and reads them.
"""

TRIGGER_TAG = "backfill/trigger"
"""What started the run, for a person."""

# Dagit does not show tags that begin like this: they are for programs.
HOST_TAG = ".dagster/backfill_host"
PROCESS_TAG = ".dagster/backfill_process"
"""Which process carries the run out, where that is a command's own and not one of the daemon's."""
