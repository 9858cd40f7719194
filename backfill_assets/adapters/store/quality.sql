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
