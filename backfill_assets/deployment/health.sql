-- name: daemon_age
-- Seconds since the newest heartbeat of any thread of Dagster's daemon. Its column timestamp depends on the session's zone.
select extract(epoch from clock_timestamp())::float8 - max((body::json ->> 'timestamp')::float8)
from dagster.daemon_heartbeats
