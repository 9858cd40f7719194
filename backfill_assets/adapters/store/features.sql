-- name: lock_features
-- Only one process at a time writes the features of a series.
select pg_advisory_xact_lock(hashtextextended('features ' || %(symbol)s || ' ' || %(timeframe)s, 0))

-- name: mark_all
insert into feature_marks (symbol, timeframe, stale)
values (%(symbol)s, %(timeframe)s, tstzrange(%(start)s, %(end)s, '[)'))

-- name: marks
-- The stale ranges, their marks, and the splits that were not withdrawn: in one statement, because a split is written with its
-- marks.
select m.ids, m.stale, e.days, e.befores, e.afters
from (
  select array_agg(id) as ids, range_agg(stale) * tstzmultirange(tstzrange(%(start)s, %(end)s, '[)')) as stale
  from feature_marks where symbol = %(symbol)s and timeframe = %(timeframe)s
) m, (
  select array_agg(ex_date order by ex_date, size) as days, array_agg(ratio_from order by ex_date, size) as befores,
    array_agg(ratio_to order by ex_date, size) as afters
  from corporate_events where symbol = %(symbol)s and kind = 'split' and withdrawn_at is null
) e

-- name: window
-- The last of the first bars of a stale range, and their number. With them, as bytes, the bars that they are computed from:
-- so many before them (NULL: all), and all of their first session. In one statement, as of one instant.
with rows as (
  select min(r.t) as first, max(r.t) as last, count(*) as rows from (
    select "timestamp" as t from market_data
    where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
    order by 1 limit %(most)s) r
)
select last, rows, (
  select string_agg(timestamptz_send("timestamp") || float8send(open) || float8send(high) || float8send(low)
    || float8send(close) || float8send(volume), '' order by "timestamp")
  from market_data
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" <= last
    and "timestamp" >= least(first, date_trunc('day', first, %(zone)s), (
      select min(b.t) from (
        select "timestamp" as t from market_data
        where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" < first
        order by 1 desc limit %(look_back)s) b)))
from rows

-- name: bars_until
select string_agg(timestamptz_send("timestamp") || float8send(open) || float8send(high) || float8send(low)
  || float8send(close) || float8send(volume), '' order by "timestamp")
from market_data
where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" < %(end)s

-- name: marks_left
select count(*) from feature_marks where id = any(%(ids)s)

-- name: clear
-- Deletes the rows to be replaced and the marks that were read, and inserts marks for what is still to be computed.
with cleared as (
  delete from market_features
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(from)s and "timestamp" < %(to)s
), gone as (
  delete from feature_marks where id = any(%(ids)s) returning stale, marked_at
)
insert into feature_marks (symbol, timeframe, stale, marked_at)
select %(symbol)s, %(timeframe)s, rest, (select min(marked_at) from gone)
from unnest((select range_agg(stale) from gone) - tstzmultirange(tstzrange(%(from)s, %(to)s, '[)'))) as rest

-- name: stale_series
-- The stale ranges that have bars: by series the first and the last such bar, and since when they are stale.
select f.symbol, f.timeframe, min(b.first), max(b.last), min(f.marked_at), max(f.id)
from feature_marks f
cross join lateral (
  select min("timestamp") as first, max("timestamp") as last from market_data m
  where m.symbol = f.symbol and m.timeframe = f.timeframe
    and m."timestamp" >= coalesce(lower(f.stale), '-infinity') and m."timestamp" < coalesce(upper(f.stale), 'infinity')
) b
where f.symbol = any(%(symbols)s) and f.timeframe = any(%(timeframes)s) and b.first is not null
group by 1, 2
order by 1, 2

-- name: uncovered
-- Bars without a feature row, by series.
select m.symbol, m.timeframe, count(*), count(*) filter (where f.symbol is null), min(m."timestamp") filter (where f.symbol is null)
from market_data m
left join market_features f
  on f.symbol = m.symbol and f.timeframe = m.timeframe and f."timestamp" = m."timestamp"
where m.symbol = any(%(symbols)s) and m.timeframe = any(%(timeframes)s)
  and m."timestamp" >= %(start)s and m."timestamp" < %(end)s
group by 1, 2
