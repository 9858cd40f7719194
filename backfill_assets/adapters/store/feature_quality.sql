-- name: sessions
-- The numbers of bars and of feature rows of each session with bars.
select a.symbol, a.timeframe, a.session, a.bars, f.rows, a.first_bar, a.last_bar, a.filled_by
from session_answers a
cross join lateral (
  select count(*)::int as rows from market_features f
  where f.symbol = a.symbol and f.timeframe = a.timeframe and f."timestamp" between a.first_bar and a.last_bar
) f
where a.bars > 0 and a.symbol = any(%(symbols)s) and a.timeframe = any(%(timeframes)s)
  and a.session between %(start)s and %(end)s
order by 1, 2, 3

-- name: out_of_range
-- `broken`: whether any value of a row is outside its bounds; `values`: each column as (name, value, least, greatest).
select f.symbol, f.timeframe, c.name, count(*), min(f."timestamp"),
  (array_agg(c.value order by greatest(c.least - c.value, c.value - c.greatest) desc))[1]
from market_features f
cross join lateral (values {values}) as c (name, value, least, greatest)
where f.symbol = any(%(symbols)s) and f.timeframe = %(timeframe)s
  and f."timestamp" >= %(start)s and f."timestamp" < %(end)s
  and ({broken}) and (c.value < c.least or c.value > c.greatest)
group by 1, 2, 3
order by 1, 2, 3
