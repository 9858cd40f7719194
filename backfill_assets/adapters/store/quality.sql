-- name: invalid_bars
-- What no bar can be, by series and rule. NaN is greater than everything in PostgreSQL, infinity included.
with checked as (
  select m.symbol, m.timeframe, m."timestamp", open, high, low, close, volume, t.length, t.name is null as of_days,
    m."timestamp" at time zone %(zone)s as local
  from market_data m
  left join unnest(%(intraday)s::text[], %(lengths)s::interval[]) as t (name, length) on t.name = m.timeframe
  where m.symbol = any(%(symbols)s) and m.timeframe = any(%(timeframes)s)
    and m."timestamp" >= %(weeks_start)s and m."timestamp" < %(ends)s
    and (m.timeframe = '1w' or m."timestamp" >= %(starts)s)
), broken as (
  select symbol, timeframe, "timestamp", rule from checked c
  cross join lateral (values
    (1, high < greatest(open, close, low)),
    (2, low > least(open, close)),
    (3, least(open, high, low, close) <= 0 or greatest(open, high, low, close) >= 'infinity'),
    (4, volume < 0 or volume >= 'infinity'),
    (5, case when of_days then local <> date_trunc('day', local) or (timeframe = '1w' and extract(dow from local) <> 0)
        else "timestamp" <> date_bin(length, "timestamp", 'epoch') end),
    (6, case
        when timeframe = '1w' then false
        when of_days then not %(sessions)s::datemultirange @> local::date
        else not %(sessions)s::datemultirange @> local::date
          or local >= local::date + %(closes)s::interval or local + length <= local::date + %(opens)s::interval end)
  ) as r (rule, is_broken)
  where is_broken
)
select symbol, timeframe, rule, count(*), (array_agg("timestamp" order by "timestamp"))[1]
from broken group by 1, 2, 3 order by 1, 2, 3

-- name: count_bars
select timeframe, count(*) from market_data
where symbol = any(%(symbols)s) and timeframe = any(%(timeframes)s) and "timestamp" >= %(weeks_start)s
  and "timestamp" < %(ends)s and (timeframe = '1w' or "timestamp" >= %(starts)s)
group by 1
