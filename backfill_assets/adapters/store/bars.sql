-- name: stored_sessions
-- How many bars of sessions are stored, without sessions that have none.
select w.session, c.bars, a.shrunk_at, a.shrunk_digest, a.filled_by
from unnest(%(sessions)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as w (session, starts, ends)
cross join lateral (
  select count(*)::int as bars from market_data m
  where m.symbol = %(symbol)s and m.timeframe = %(timeframe)s
    and m."timestamp" >= w.starts and m."timestamp" < w.ends
) c
left join session_answers a on a.symbol = %(symbol)s and a.timeframe = %(timeframe)s and a.session = w.session
where c.bars > 0

-- name: copy_bars
-- Copies directly into the table, for a range that holds no rows yet.
copy market_data (symbol, timeframe, source, "timestamp", open, high, low, close, volume, vwap, trades)
from stdin (format binary)

-- name: make_stage
create temp table if not exists stage (
  t timestamptz, o float8, h float8, l float8, c float8, v float8, vw float8, n int8
) on commit delete rows

-- name: clear_stage
-- One transaction merges several timeframes, one after another.
truncate stage

-- name: copy_stage
copy stage from stdin (format binary)

-- name: merge
-- Returns by day (UTC) the first and last row written, how many were inserted and changed, and of the restated ones the first,
-- the last and the number.
-- Rows that are already stored are neither locked nor written. The earlier values of changed ones go into the history if
-- `kept`. ORDER BY gives concurrent writers one lock order. The time of the statement, unlike that of the transaction, is after
-- the wait for the lock: what it replaces ends when it begins. Flat files have no vwap: that of an equal bar stays. A bar that
-- only gains its vwap is no restatement, and has no history.
with answer as (
  select s.t, s.o, s.h, s.l, s.c, s.v, nullif(s.n, -1) as n, x.*,
    case when %(source)s = 'polygon_files'
        and (x.open, x.high, x.low, x.close, x.volume) is not distinct from (s.o, s.h, s.l, s.c, s.v)
      then x.vwap else nullif(s.vw, 'NaN') end as vw
  from stage s
  left join market_data x on x.symbol = %(symbol)s and x.timeframe = %(timeframe)s and x."timestamp" = s.t
), differing as materialized (
  select *,
    symbol is not null and vwap is null
      and (open, high, low, close, volume, trades) is not distinct from (o, h, l, c, v, n) as gained
  from answer
  where symbol is null
    or (source like 'derived_%%' and source <> %(source)s)
    or (open, high, low, close, volume, vwap, trades) is distinct from (o, h, l, c, v, vw, n)
), kept as (
  insert into market_data_history
    (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at, removed,
     new_open, new_high, new_low, new_close, new_volume, new_vwap, new_trades, new_source, run_id)
  select symbol, timeframe, t, open, high, low, close, volume, vwap, trades, source, ingested_at, false,
    o, h, l, c, v, vw, n, %(source)s, %(run_id)s
  from differing where symbol is not null and not gained and %(kept)s order by t
), written as (
  insert into market_data as m
    (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at)
  select %(symbol)s, %(timeframe)s, t, o, h, l, c, v, vw, n, %(source)s, statement_timestamp() from differing order by t
  on conflict (symbol, timeframe, "timestamp") do update set
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, vwap = excluded.vwap, trades = excluded.trades,
    source = excluded.source, ingested_at = excluded.ingested_at
  returning (xmax = 0) as is_new, "timestamp" as t
)
select min(t), max(t), count(*) filter (where is_new), count(*) filter (where not is_new),
  min(t) filter (where not is_new and not gained), max(t) filter (where not is_new and not gained),
  count(*) filter (where not is_new and not gained)
from written join differing using (t) group by date_trunc('day', t) order by 1

-- name: remove
-- Deletes bars and their feature rows; those go into the history if `kept`. Returns by day (UTC) the first and last, and how many.
with gone as (
  delete from market_data
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" = any(%(stamps)s::timestamptz[])
  returning *
), kept as (
  insert into market_data_history
    (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at, removed, run_id)
  select symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at, true, %(run_id)s
  from gone where %(kept)s order by "timestamp"
), features as (
  delete from market_features f using gone g
  where f.symbol = g.symbol and f.timeframe = g.timeframe and f."timestamp" = g."timestamp"
)
select min("timestamp"), max("timestamp"), count(*) from gone group by date_trunc('day', "timestamp") order by 1

-- name: record_sessions
-- `bars` is the number that is stored now. An answer that comes before its pause is over does not count; one that counts resets
-- the failures, so that after an outage a session is requested until an answer is confirmed. The count begins again with an
-- answer that adds a tenth, or brings or removes a doubt: a vendor whose answers differ by a few bars is not requested for ever.
insert into session_answers as a
  (symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial, answered_at, doubt,
   volume, half_hours, shrunk_at, shrunk_digest, filled_by)
select %(symbol)s, %(timeframe)s, s.session, s.bars, s.first_bar, s.last_bar, 1, 0, false, false, %(attempted_at)s, s.doubt,
  s.volume, s.half_hours, s.shrunk_at, s.shrunk_digest, s.filled_by
from unnest(%(sessions)s::date[], %(bars)s::int[], %(first)s::timestamptz[], %(last)s::timestamptz[], %(doubts)s::text[],
  %(volume)s::float8[], %(half_hours)s::bytea[], %(shrunk_at)s::timestamptz[], %(shrunk_digest)s::bigint[],
  %(filled_by)s::text[])
  as s (session, bars, first_bar, last_bar, doubt, volume, half_hours, shrunk_at, shrunk_digest, filled_by)
order by s.session
on conflict (symbol, timeframe, session) do update set
  bars = excluded.bars,
  first_bar = excluded.first_bar,
  last_bar = excluded.last_bar,
  answers = case
    when excluded.bars * 10 > a.bars * 11 or (a.doubt is null) <> (excluded.doubt is null) or a.answers = 0 then 1
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1) then a.answers + 1
    else a.answers end,
  failures = case
    when excluded.bars * 10 > a.bars * 11 or (a.doubt is null) <> (excluded.doubt is null) or a.answers = 0
      or excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then 0
    else a.failures end,
  refused = false,
  partial = a.partial and excluded.bars <= a.bars,
  partial_because = case when a.partial and excluded.bars <= a.bars then a.partial_because end,
  doubt = excluded.doubt,
  volume = excluded.volume,
  half_hours = excluded.half_hours,
  shrunk_at = excluded.shrunk_at,
  shrunk_digest = excluded.shrunk_digest,
  filled_by = excluded.filled_by,
  answered_at = case
    when excluded.bars * 10 > a.bars * 11 or (a.doubt is null) <> (excluded.doubt is null) or a.answers = 0
      or excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then excluded.answered_at
    else a.answered_at end

-- name: record_failures
-- Complete sessions are not touched. A failure that comes before its pause is over does not count.
insert into session_answers as a
  (symbol, timeframe, session, bars, answers, failures, refused, partial, answered_at)
select %(symbol)s, %(timeframe)s, s.session, 0, 0, 1, %(refused)s, false, %(attempted_at)s
from unnest(%(sessions)s::date[]) as s (session)
order by s.session
on conflict (symbol, timeframe, session) do update set
  refused = (a.bars = 0 or a.filled_by is not null) and excluded.refused,
  failures = case
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1) then a.failures + 1
    else a.failures end,
  answered_at = case
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then excluded.answered_at
    else a.answered_at end
where a.bars = 0 or a.partial or a.doubt is not null or a.filled_by is not null

-- name: record_filled
-- Sessions with bars of a fallback. What the vendor answered stays; so does what it has bars of.
insert into session_answers as a
  (symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial, answered_at,
   volume, half_hours, filled_by)
select %(symbol)s, %(timeframe)s, s.session, s.bars, s.first_bar, s.last_bar, 0, 0, false, false, %(attempted_at)s,
  s.volume, s.half_hours, %(fallback)s
from unnest(%(sessions)s::date[], %(bars)s::int[], %(first)s::timestamptz[], %(last)s::timestamptz[],
  %(volume)s::float8[], %(half_hours)s::bytea[]) as s (session, bars, first_bar, last_bar, volume, half_hours)
order by s.session
on conflict (symbol, timeframe, session) do update set
  bars = excluded.bars,
  first_bar = excluded.first_bar,
  last_bar = excluded.last_bar,
  volume = excluded.volume,
  half_hours = excluded.half_hours,
  doubt = null,
  filled_by = excluded.filled_by
where a.bars = 0 or a.filled_by is not null

-- name: vendors_sessions
select session from session_answers
where symbol = %(symbol)s and timeframe = %(timeframe)s and session = any(%(sessions)s::date[])
  and bars > 0 and filled_by is null

-- name: count_sessions
-- Count and summarize what the table holds of sessions.
select w.session, c.bars, c.first_bar, c.last_bar, c.volume,
  case when %(timeframe)s = '1m' and c.bars > 0 then c.half_hours end
from unnest(%(sessions)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as w (session, starts, ends)
cross join lateral (
  select coalesce(sum(h.bars), 0)::int as bars, min(h.first_bar) as first_bar, max(h.last_bar) as last_bar,
    sum(h.volume) as volume,
    string_agg(set_byte('\x00', 0, coalesce(h.bars, 0)::int), '' order by half_hour) as half_hours
  from generate_series(0, 47) half_hour
  left join (
    select floor(extract(epoch from m."timestamp" - w.starts) / 1800) as half_hour, count(*) as bars,
      min(m."timestamp") as first_bar, max(m."timestamp") as last_bar, sum(m.volume) as volume
    from market_data m
    where m.symbol = %(symbol)s and m.timeframe = %(timeframe)s
      and m."timestamp" >= w.starts and m."timestamp" < w.ends
    group by 1
  ) h using (half_hour)
) c

-- name: recount_sessions
update session_answers a
set bars = c.bars, first_bar = c.first_bar, last_bar = c.last_bar, volume = c.volume, half_hours = c.half_hours
from unnest(%(sessions)s::date[], %(bars)s::int[], %(first)s::timestamptz[], %(last)s::timestamptz[],
  %(volume)s::float8[], %(half_hours)s::bytea[]) as c (session, bars, first_bar, last_bar, volume, half_hours)
where a.symbol = %(symbol)s and a.timeframe = %(timeframe)s and a.session = c.session
  and (a.bars, a.volume, a.half_hours) is distinct from (c.bars, c.volume, c.half_hours)

-- name: cover
insert into coverage as v (symbol, timeframe, filled)
select %(symbol)s, %(timeframe)s, range_agg(daterange(r.first, r.last, '[]'))
from unnest(%(starts)s::date[], %(ends)s::date[]) as r (first, last)
on conflict (symbol, timeframe) do update set filled = v.filled + excluded.filled
where not v.filled @> excluded.filled

-- name: uncover
update coverage set filled = filled - (select range_agg(daterange(r.first, r.last, '[]'))
  from unnest(%(starts)s::date[], %(ends)s::date[]) as r (first, last))
where symbol = %(symbol)s and timeframe = %(timeframe)s

-- name: answers
select a.symbol, a.timeframe, a.session, a.bars, a.first_bar, a.last_bar, a.answers, a.failures, a.refused, a.partial,
  a.answered_at, a.doubt, a.partial_because, a.shrunk_at, a.filled_by,
  case when a.bars = 0 or a.filled_by is not null then (
    select jsonb_object_agg(f.source, extract(epoch from f.next_at)) from fallback_answers f
    where f.symbol = a.symbol and f.timeframe = a.timeframe and f.session = a.session and f.next_at is not null) end,
  case when a.bars = 0 then exists (
    select from witness_bars w where w.symbol = a.symbol and w.session = a.session and w.source = %(witness)s)
    else false end
from session_answers a
where a.symbol = any(%(symbols)s) and a.timeframe = any(%(timeframes)s) and a.session between %(start)s and %(end)s

-- name: incomplete_answers
select a.symbol, a.timeframe, a.session, a.bars, a.first_bar, a.last_bar, a.answers, a.failures, a.refused, a.partial,
  a.answered_at, a.doubt, a.partial_because, a.shrunk_at, a.filled_by,
  case when a.bars = 0 or a.filled_by is not null then (
    select jsonb_object_agg(f.source, extract(epoch from f.next_at)) from fallback_answers f
    where f.symbol = a.symbol and f.timeframe = a.timeframe and f.session = a.session and f.next_at is not null) end,
  case when a.bars = 0 then exists (
    select from witness_bars w where w.symbol = a.symbol and w.session = a.session and w.source = %(witness)s)
    else false end
from session_answers a
where (a.bars = 0 or a.partial or a.doubt is not null or a.filled_by is not null)
  and a.symbol = any(%(symbols)s) and a.timeframe = any(%(sources)s)

-- name: bars_between
select (extract(epoch from "timestamp") * 1000)::bigint, open, high, low, close, volume, vwap, trades
from market_data
where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(starts)s and "timestamp" < %(ends)s
order by "timestamp"

-- name: lock_source
-- Only one writer of a source at a time: a week is derived from days that different writers may store.
-- Several are locked in one order, so that two writers do not wait for each other.
select pg_advisory_xact_lock(hashtextextended(symbol || ' ' || %(timeframe)s, 0)),
  set_config('idle_in_transaction_session_timeout', '0', true)
from (select symbol from unnest(%(symbols)s::text[]) as symbol order by symbol) s

-- name: answered_sessions
select session, filled_by from session_answers
where symbol = %(symbol)s and timeframe = %(timeframe)s and session = any(%(sessions)s::date[])
  and (answers > 0 or filled_by is not null)

-- name: first_answered
select min(session) from session_answers
where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and bars > 0 and filled_by is null
  and answered_at >= %(since)s

-- name: any_filled
select exists (
  select from session_answers
  where symbol = any(%(symbols)s) and (timeframe = %(timeframe)s or %(timeframe)s::text is null)
    and bars > 0 and filled_by is null)
