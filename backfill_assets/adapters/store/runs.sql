-- name: start_run
-- A run that Dagster executes again, after its process died, starts again.
insert into backfill_runs (run_id, kind, market, trigger, started_at, status, seen_at)
values (%(run_id)s, %(kind)s, %(market)s, %(trigger)s, %(started_at)s, 'started', clock_timestamp())
on conflict (run_id, kind, market) do update set
  started_at = excluded.started_at, seen_at = excluded.seen_at, status = 'started', finished_at = null, error = null

-- name: beat
update backfill_runs set seen_at = clock_timestamp(), requests = %(requests)s, planned_requests = %(planned_requests)s
where (run_id, kind, market) = (%(run_id)s, %(kind)s, %(market)s)

-- name: silence
select extract(epoch from clock_timestamp() - max(seen_at))::float8 from backfill_runs where run_id = %(run_id)s

-- name: forget_details
with key as (select %(run_id)s::text as run_id, %(kind)s::text as kind, %(market)s::text as market),
  s as (delete from backfill_run_series using key
    where (backfill_run_series.run_id, backfill_run_series.kind, backfill_run_series.market) = (key.run_id, key.kind, key.market)),
  g as (delete from backfill_run_gaps using key
    where (backfill_run_gaps.run_id, backfill_run_gaps.kind, backfill_run_gaps.market) = (key.run_id, key.kind, key.market)),
  j as (delete from backfill_run_rejected j using key
    where (j.run_id, j.kind, j.market) = (key.run_id, key.kind, key.market))
delete from backfill_run_restatements r using key
where (r.run_id, r.kind, r.market) = (key.run_id, key.kind, key.market)

-- name: finish_run
update backfill_runs set
  finished_at = %(finished_at)s, status = %(status)s, error = %(error)s, requests = %(requests)s, retried = %(retried)s,
  rate_limited = %(rate_limited)s, bars_written = %(written)s, bars_changed = %(changed)s, bars_unchanged = %(unchanged)s,
  bars_removed = %(removed)s,
  features_written = %(features)s, gaps_before = %(gaps_before)s, gaps_after = %(gaps_after)s,
  planned_requests = %(planned_requests)s
where (run_id, kind, market) = (%(run_id)s, %(kind)s, %(market)s)

-- name: newest_requests
select run_id, status, finished_at from backfill_runs
where finished_at is not null and requests > 0 and status in ('succeeded', 'failed')
order by finished_at desc, status desc limit 10

-- name: unfinished_runs
select distinct run_id from backfill_runs where status = 'started' order by 1

-- name: abandon_run
update backfill_runs set finished_at = %(finished_at)s, status = %(status)s, error = %(error)s
where run_id = %(run_id)s and status = 'started'

-- name: add_series
insert into backfill_run_series (run_id, kind, market, symbol, timeframe, sessions, missing_before, missing_after, bars_written,
  bars_changed, bars_unchanged, bars_removed, bars_rejected, features_written, error)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_gap
insert into backfill_run_gaps (run_id, kind, market, symbol, timeframe, gap_start, gap_end, sessions, reason, attempts, outcome,
  sessions_left)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_restatement
insert into backfill_run_restatements (run_id, kind, market, symbol, timeframe, first_bar, last_bar, bars, bars_removed)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_rejected
insert into backfill_run_rejected (run_id, kind, market, symbol, timeframe, session, start, reason)
values (%s, %s, %s, %s, %s, %s, %s, %s)

-- name: runs
select run_id, kind, market, trigger, started_at, finished_at, status, error, planned_requests, requests, retried,
  rate_limited, bars_written, bars_changed, bars_unchanged, bars_removed, features_written, gaps_before, gaps_after
from backfill_runs
where (%(run_id)s::text is null or run_id = %(run_id)s) and (%(since)s::timestamptz is null or started_at >= %(since)s)
order by started_at desc, run_id, kind, market

-- name: running
-- The runs that have not ended, and how many sessions of fetched series were answered since; only runs over bars fetch.
select run_id, kind, market, trigger, started_at, planned_requests, requests, (
  select count(*) from session_answers a where r.kind = 'ohlcv' and a.answered_at >= r.started_at) as sessions
from backfill_runs r where status = 'started' order by started_at, run_id, kind, market

-- name: run_totals
select market, kind, status, count(*), sum(requests)::int8, sum(retried)::int8, sum(rate_limited)::int8,
  sum(bars_written + features_written)::int8,
  coalesce(sum(extract(epoch from finished_at - started_at)), 0)::float8
from backfill_runs group by market, kind, status order by market, kind, status

-- name: last_runs
-- The last run of each market and kind, newest first.
select * from (
  select distinct on (market, kind) run_id, kind, market, trigger, started_at, finished_at, status, error, planned_requests, requests,
    retried, rate_limited, bars_written, bars_changed, bars_unchanged, bars_removed, features_written, gaps_before, gaps_after
  from backfill_runs order by market, kind, started_at desc, run_id
) r order by started_at desc, run_id, kind, market

-- name: series_of
select run_id, kind, market, symbol, timeframe, sessions, missing_before, missing_after, bars_written, bars_changed,
  bars_unchanged, bars_removed, bars_rejected, features_written, error
from backfill_run_series where run_id = any(%(run_ids)s) order by 1, 2, 3, 4, 5

-- name: gaps_of
select run_id, kind, market, symbol, timeframe, gap_start, gap_end, sessions, reason, attempts, outcome, sessions_left
from backfill_run_gaps where run_id = any(%(run_ids)s) order by 1, 2, 3, 4, 5, 6

-- name: restatements_of
select run_id, kind, market, symbol, timeframe, first_bar, last_bar, bars, bars_removed
from backfill_run_restatements where run_id = any(%(run_ids)s) order by 1, 2, 3, 4, 5, 6

-- name: rejected_of
select run_id, kind, market, symbol, timeframe, session, start, reason
from backfill_run_rejected where run_id = any(%(run_ids)s) order by 1, 2, 3, 4, 5, 7
