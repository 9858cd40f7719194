-- name: examined_bars
-- The bars of one timeframe by symbol and by the rules that they break, one bit each; 0 if they break none. NaN is greater than
-- everything in PostgreSQL, even infinity. `within` holds the times, ascending, between which a bar may start: from an odd one
-- up to the next. Searching an array takes a tenth of the time of a multirange, which is unpacked for each row.
with examined as (
  select symbol, "timestamp",
    (high < greatest(open, close, low))::int
    + (low > least(open, close))::int * 2
    + (least(open, high, low, close) <= 0 or greatest(open, high, low, close) >= 'infinity')::int * 4
    + (volume < 0 or volume >= 'infinity')::int * 8
    + (case timeframe
        when '1d' then "timestamp" <> date_trunc('day', "timestamp", %(zone)s)
        when '1w' then "timestamp" <> date_trunc('day', "timestamp", %(zone)s)
          or extract(dow from "timestamp" at time zone %(zone)s) <> 0
        else "timestamp" <> date_bin(%(length)s, "timestamp", 'epoch') end)::int * 16
    + (width_bucket("timestamp", %(within)s::timestamptz[]) %% 2 = 0)::int * 32
    as broken
  from market_data
  where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
)
select symbol, broken, count(*), min("timestamp") from examined group by 1, 2

-- name: far_prices
-- Bars whose high or low is further than the factor from both neighbours, with the lowest and highest of the opens and closes of
-- the bars around it, and of the day. `session`: bars are compared within it; null where they are compared with other days.
with bars as (
  select symbol, "timestamp", low, high, least(open, close) as bottom, greatest(open, close) as top,
    case when %(timeframe)s <> '1d' then date_trunc('day', "timestamp", %(zone)s) end as session
  from market_data
  where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
    and least(open, high, low, close) > 0 and greatest(open, high, low, close) < 'infinity'
), beside as (
  select *, least(lag(bottom) over near, lead(bottom) over near) as lowest,
    greatest(lag(top) over near, lead(top) over near) as highest
  from bars window near as (partition by symbol, session order by "timestamp")
)
select b.symbol, b."timestamp", b.low, b.high, near.lowest, near.highest, d.low, d.high
from beside b
cross join lateral (
  select min(least(n.open, n.close)) as lowest, max(greatest(n.open, n.close)) as highest
  from (
    (select m.open, m.close from market_data m
     where m.symbol = b.symbol and m.timeframe = %(timeframe)s and m."timestamp" < b."timestamp"
       and (b.session is null or m."timestamp" >= b.session)
     order by m."timestamp" desc limit %(near)s)
    union all
    (select m.open, m.close from market_data m
     where m.symbol = b.symbol and m.timeframe = %(timeframe)s and m."timestamp" > b."timestamp"
       and (b.session is null or m."timestamp" < b.session + interval '1 day')
     order by m."timestamp" limit %(near)s)
  ) n
  where least(n.open, n.close) > 0 and greatest(n.open, n.close) < 'infinity'
) near
left join market_data d on d.symbol = b.symbol and d.timeframe = '1d' and d."timestamp" = b.session
  and d.low > 0 and d.high < 'infinity'
where b.high > b.highest * %(factor)s or b.low * %(factor)s < b.lowest
order by 1, 2

-- name: minutes_outside_day
-- Sessions of which many minutes close outside the range of the daily bar: the first of these, and the range.
select d.symbol, m."timestamp", m.close, d.low, d.high
from unnest(%(days)s::timestamptz[], %(opens)s::timestamptz[], %(closes)s::timestamptz[]) s (day, opens, closes)
join market_data d on d.symbol = any(%(symbols)s) and d.timeframe = '1d' and d."timestamp" = s.day
  and d.low > 0 and d.high < 'infinity'
cross join lateral (
  select count(*) as bars, count(*) filter (where outside) as far, min("timestamp") filter (where outside) as "timestamp",
    (array_agg(close order by "timestamp") filter (where outside))[1] as close
  from (
    select "timestamp", close, close > d.high * %(factor)s or close * %(factor)s < d.low as outside
    from market_data
    where symbol = d.symbol and timeframe = '1m' and "timestamp" >= s.opens and "timestamp" < s.closes
      and close > 0 and close < 'infinity'
  ) regular
) m
where m.far >= greatest(%(bars)s, %(share)s * m.bars)
