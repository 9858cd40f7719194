-- name: any_between
select exists (
  select from market_data
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" between %(first)s and %(last)s)

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
-- Returns by day (UTC) the first and last row written, how many were inserted and changed, and the first and last changed.
-- Rows that are already stored are neither locked nor written. ORDER BY gives concurrent writers one lock order.
with written as (
  insert into market_data as m
    (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source)
  select %(symbol)s, %(timeframe)s, s.t, s.o, s.h, s.l, s.c, s.v, nullif(s.vw, 'NaN'), nullif(s.n, -1), %(source)s
  from stage s
  where not exists (
    select from market_data x
    where x.symbol = %(symbol)s and x.timeframe = %(timeframe)s and x."timestamp" = s.t
      and (x.open, x.high, x.low, x.close, x.volume, x.vwap, x.trades)
        is not distinct from (s.o, s.h, s.l, s.c, s.v, nullif(s.vw, 'NaN'), nullif(s.n, -1)))
  order by s.t
  on conflict (symbol, timeframe, "timestamp") do update set
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, vwap = excluded.vwap, trades = excluded.trades,
    source = excluded.source, ingested_at = now()
  returning (xmax = 0) as is_new, "timestamp" as t
)
select min(t), max(t), count(*) filter (where is_new), count(*) filter (where not is_new),
  min(t) filter (where not is_new), max(t) filter (where not is_new)
from written group by date_trunc('day', t) order by 1

-- name: record_sessions
-- An empty answer never removes bars of an earlier one. An answer that comes before its pause is over does not count; one that
-- counts resets the failures, so that after an outage a session is requested until an answer is confirmed.
insert into session_answers as a
  (symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial, answered_at, doubt,
  volume, half_hours)
select %(symbol)s, %(timeframe)s, s.session, s.bars, s.first_bar, s.last_bar, 1, 0, false, false, %(attempted_at)s, s.doubt,
  s.volume, s.half_hours
from unnest(%(sessions)s::date[], %(bars)s::int[], %(first)s::timestamptz[], %(last)s::timestamptz[], %(doubts)s::text[],
  %(volume)s::float8[], %(half_hours)s::bytea[])
  as s (session, bars, first_bar, last_bar, doubt, volume, half_hours)
order by s.session
on conflict (symbol, timeframe, session) do update set
  bars = greatest(a.bars, excluded.bars),
  first_bar = least(a.first_bar, excluded.first_bar),
  last_bar = greatest(a.last_bar, excluded.last_bar),
  answers = case
    when excluded.bars > a.bars or a.answers = 0 then 1
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1) then a.answers + 1
    else a.answers end,
  failures = case
    when excluded.bars > a.bars or a.answers = 0
      or excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then 0
    else a.failures end,
  refused = false,
  partial = a.partial and excluded.bars <= a.bars,
  partial_because = case when a.partial and excluded.bars <= a.bars then a.partial_because end,
  doubt = excluded.doubt,
  volume = excluded.volume,
  half_hours = excluded.half_hours,
  answered_at = case
    when excluded.bars > a.bars or a.answers = 0
      or excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then excluded.answered_at
    else a.answered_at end
returning session, (xmax <> 0 and bars > 0) as seen_before

-- name: record_failures
-- Complete sessions are not touched. A failure that comes before its pause is over does not count.
insert into session_answers as a
  (symbol, timeframe, session, bars, answers, failures, refused, partial, answered_at)
select %(symbol)s, %(timeframe)s, s.session, 0, 0, 1, %(refused)s, false, %(attempted_at)s
from unnest(%(sessions)s::date[]) as s (session)
order by s.session
on conflict (symbol, timeframe, session) do update set
  refused = a.bars = 0 and excluded.refused,
  failures = case
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1) then a.failures + 1
    else a.failures end,
  answered_at = case
    when excluded.answered_at >= a.answered_at + %(first_pause)s * power(2, a.answers + a.failures - 1)
      then excluded.answered_at
    else a.answered_at end
where a.bars = 0 or a.partial or a.doubt is not null

-- name: recount_sessions
-- Several answers to a session may each have added bars of their own: count and summarize what the table holds.
update session_answers a
set bars = c.bars, first_bar = c.first_bar, last_bar = c.last_bar, volume = c.volume,
  half_hours = case when %(timeframe)s = '1m' and c.bars > 0 then c.half_hours end
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
where a.symbol = %(symbol)s and a.timeframe = %(timeframe)s and a.session = w.session
  and (a.bars, a.volume, a.half_hours) is distinct from
    (c.bars, c.volume, case when %(timeframe)s = '1m' and c.bars > 0 then c.half_hours end)

-- name: cover
insert into coverage as v (symbol, timeframe, filled)
select %(symbol)s, %(timeframe)s, range_agg(daterange(r.first, r.last, '[]'))
from unnest(%(starts)s::date[], %(ends)s::date[]) as r (first, last)
on conflict (symbol, timeframe) do update set filled = v.filled + excluded.filled
where not v.filled @> excluded.filled

-- name: answers
select symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial, answered_at,
  doubt, partial_because
from session_answers
where symbol = any(%(symbols)s) and timeframe = any(%(timeframes)s) and session between %(start)s and %(end)s

-- name: incomplete_answers
select symbol, timeframe, session, bars, first_bar, last_bar, answers, failures, refused, partial, answered_at,
  doubt, partial_because
from session_answers
where (bars = 0 or partial or doubt is not null) and symbol = any(%(symbols)s) and timeframe = any(%(sources)s)

-- name: bars_between
select (extract(epoch from "timestamp") * 1000)::bigint, open, high, low, close, volume, vwap, trades
from market_data
where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(starts)s and "timestamp" < %(ends)s
order by "timestamp"

-- name: lock_source
-- Only one writer of a source at a time: a week is derived from days that different writers may store.
select pg_advisory_xact_lock(hashtextextended(%(symbol)s || ' ' || %(timeframe)s, 0))

-- name: answered_sessions
select session from session_answers
where symbol = %(symbol)s and timeframe = %(timeframe)s and session = any(%(sessions)s::date[]) and (answers > 0 or refused)

-- name: first_answered
select min(session) from session_answers
where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and bars > 0 and answered_at >= %(since)s

-- name: any_filled
select exists (
  select from coverage
  where symbol = any(%(symbols)s) and (timeframe = %(timeframe)s or %(timeframe)s::text is null) and not isempty(filled))
