-- name: lock
-- One export of a place at a time, on whatever machine. A connection that is kept for its lock stays idle.
select pg_try_advisory_lock(hashtextextended('export ' || %(place)s, 0)), set_config('idle_session_timeout', '0', false)

-- name: wait
select pg_advisory_lock(hashtextextended('export ' || %(place)s, 0))

-- name: states
-- By timeframe and month of the market: which symbols have bars, and a number that changes with the bars.
-- Every transaction that changes bars writes the rows of their sessions, so these get its identifier as xmin. Features are
-- replaced by ranges that hold the first or the last bar of every session they touch, so the rows of these two show it. A sum
-- does not depend on the order.
select s.timeframe, s.month, array_agg(distinct s.symbol),
  sum(hash_record_extended(row(s.symbol, s.session, s.written, f.written, l.written), 0))::text
from (
  select a.symbol, a.timeframe, a.session, a.first_bar, a.last_bar, a.xmin::text::bigint as written,
    date_trunc('month', case when a.timeframe = '1w' then a.first_bar at time zone %(zone)s
      else a.session::timestamp end)::date as month
  from session_answers a
  where a.symbol = any(%(symbols)s) and a.timeframe = any(%(timeframes)s) and a.bars > 0
    and a.session between %(start)s and %(end)s
) s
left join lateral (
  select m.xmin::text::bigint as written from market_features m
  where %(features)s and m.symbol = s.symbol and m.timeframe = s.timeframe and m."timestamp" = s.first_bar
) f on true
left join lateral (
  select m.xmin::text::bigint as written from market_features m
  where %(features)s and m.symbol = s.symbol and m.timeframe = s.timeframe and m."timestamp" = s.last_bar
) l on true
group by s.timeframe, s.month
order by s.timeframe, s.month

-- name: stretches
-- What adjusts bars until today.
-- Instants in seconds since the epoch.
select symbol, extract(epoch from starts)::float8, extract(epoch from ends)::float8, price, shares, uncertain
from adjustment_stretches((now() at time zone 'America/New_York')::date, %(dividends)s, 'infinity')
where symbol = any(%(symbols)s)
order by symbol, ends

-- name: sums
-- By symbol what the bars of a month add up to: integers, so that the order does not matter.
select symbol, count(*), min("timestamp"), max("timestamp"), coalesce(sum(trades), 0),
  coalesce(sum((open * 10000)::bigint + (high * 10000)::bigint + (low * 10000)::bigint + (close * 10000)::bigint
    + coalesce((vwap * 10000)::bigint, 0)), 0), coalesce(sum((volume * 100)::bigint), 0)
from market_data
where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
group by symbol
order by symbol
