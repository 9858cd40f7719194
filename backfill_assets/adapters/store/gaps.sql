-- name: lock_gaps
-- Only one process at a time compares the table with what is missing. Python does, so the server may not end the transaction
-- as idle, however slow the machine is.
select pg_advisory_xact_lock(hashtextextended('backfill_gaps', 0)),
  set_config('idle_in_transaction_session_timeout', '0', true)

-- name: may_idle
-- The same without the lock.
select set_config('idle_in_transaction_session_timeout', '0', true)

-- name: missing_days
-- The ranges of days whose expected sessions have no bars. A series of which nothing is known is one range.
-- A listing that ends before it begins is not a valid range: no session is expected. MATERIALIZED, because the planner would
-- otherwise compute the expected days at each reference, five times as slow. Testing for equality is three times as fast as
-- computing an empty difference.
with expected as materialized (
  select s.symbol, %(sessions)s::datemultirange * datemultirange(daterange(s.listed, s.delisted, '[]')) as days
  from unnest(%(symbols)s::text[], %(listed)s::date[], %(delisted)s::date[]) as s (symbol, listed, delisted)
  where not coalesce(s.delisted < s.listed, false)
)
select e.symbol, t.timeframe, lower(r.days), upper(r.days) - 1
from expected e
cross join unnest(%(timeframes)s::text[]) as t (timeframe)
left join coverage v on v.symbol = e.symbol and v.timeframe = t.timeframe
cross join lateral unnest(case
  when v.filled is null then datemultirange(range_merge(e.days))
  when v.filled = e.days then '{}'
  else e.days - v.filled end) as r (days)
order by 1, 2, 3

-- name: open_gaps
select id, symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, next_attempt_at, detail,
  first_seen
from backfill_gaps
where not filled and symbol = any(%(symbols)s) and timeframe = any(%(timeframes)s)

-- name: delete_gaps
delete from backfill_gaps where id = any(%(ids)s)

-- name: insert_gaps
insert into backfill_gaps (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, next_attempt_at,
  first_seen, detail, filled, filled_at)
select symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, next_attempt_at, first_seen, detail,
  %(filled)s, case when %(filled)s then %(now)s::timestamptz end
from unnest(%(symbol)s::text[], %(timeframe)s::text[], %(start)s::date[], %(end)s::date[], %(sessions_of)s::int[],
  %(reason)s::text[], %(explained)s::bool[], %(attempts)s::int[], %(next)s::timestamptz[], %(first_seen)s::timestamptz[],
  %(detail)s::text[])
  as g (symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, next_attempt_at, first_seen, detail)
