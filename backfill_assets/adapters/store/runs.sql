-- name: start_run
-- A run that Dagster carries out a second time, after its process died, begins anew.
insert into backfill_runs (run_id, kind, market, trigger, started_at, status)
values (%(run_id)s, %(kind)s, %(market)s, %(trigger)s, %(started_at)s, 'started')
on conflict (run_id) do update set started_at = excluded.started_at, status = 'started', finished_at = null, error = null

-- name: forget_details
with s as (delete from backfill_run_series where run_id = %(run_id)s),
  g as (delete from backfill_run_gaps where run_id = %(run_id)s)
delete from backfill_run_restatements where run_id = %(run_id)s

-- name: finish_run
update backfill_runs set
  finished_at = %(finished_at)s, status = %(status)s, error = %(error)s, requests = %(requests)s, retried = %(retried)s,
  rate_limited = %(rate_limited)s, bars_written = %(written)s, bars_changed = %(changed)s, bars_unchanged = %(unchanged)s,
  gaps_before = %(gaps_before)s, gaps_after = %(gaps_after)s
where run_id = %(run_id)s

-- name: add_series
insert into backfill_run_series values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_gap
insert into backfill_run_gaps values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_restatement
insert into backfill_run_restatements values (%s, %s, %s, %s, %s, %s)

-- name: runs
select run_id, kind, market, trigger, started_at, finished_at, status, error, requests, retried, rate_limited,
  bars_written, bars_changed, bars_unchanged, gaps_before, gaps_after
from backfill_runs
where (%(run_id)s::text is null or run_id = %(run_id)s) and (%(since)s::timestamptz is null or started_at >= %(since)s)
order by started_at desc, run_id limit %(most)s

-- name: series_of
select run_id, symbol, timeframe, sessions, missing_before, missing_after, bars_written, bars_changed, bars_unchanged, error
from backfill_run_series where run_id = any(%(run_ids)s) order by 1, 2, 3

-- name: gaps_of
select run_id, symbol, timeframe, gap_start, gap_end, sessions, reason, attempts, outcome, sessions_left
from backfill_run_gaps where run_id = any(%(run_ids)s) order by 1, 2, 3, 4

-- name: restatements_of
select run_id, symbol, timeframe, first_bar, last_bar, bars
from backfill_run_restatements where run_id = any(%(run_ids)s) order by 1, 2, 3, 4
