-- name: minute_counts
select symbol, session, bars, partial from session_answers
where timeframe = %(timeframe)s and bars > 0 and symbol = any(%(symbols)s) and session between %(start)s and %(end)s
order by symbol, session

-- name: mark_partial
update session_answers a set partial = m.partial
from unnest(%(symbol)s::text[], %(session)s::date[], %(partial)s::bool[]) as m (symbol, session, partial)
where a.symbol = m.symbol and a.timeframe = %(timeframe)s and a.session = m.session and a.partial <> m.partial

-- name: last_bars
-- One lookup at the end of the primary key per series; `group by` would read every bar.
select s.symbol, t.timeframe, (
  select max(m."timestamp") from market_data m where m.symbol = s.symbol and m.timeframe = t.timeframe)
from unnest(%(symbols)s::text[]) as s (symbol)
cross join unnest(%(timeframes)s::text[]) as t (timeframe)
