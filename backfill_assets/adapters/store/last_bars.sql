-- name: last_bars
-- One look at the primary key's end a series; `group by` would read every bar.
select s.symbol, t.timeframe, (
  select max(m."timestamp") from market_data m where m.symbol = s.symbol and m.timeframe = t.timeframe)
from unnest(%(symbols)s::text[]) as s (symbol)
cross join unnest(%(timeframes)s::text[]) as t (timeframe)
