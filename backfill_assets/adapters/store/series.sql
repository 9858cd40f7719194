-- name: minute_sessions
select m.symbol, m.session, m.bars, m.half_hours, m.volume, d.volume, d.bars > 0, m.partial, m.partial_because
from session_answers m
left join session_answers d on d.symbol = m.symbol and d.timeframe = '1d' and d.session = m.session
where m.timeframe = '1m' and m.bars > 0 and m.symbol = any(%(symbols)s) and m.session between %(start)s and %(end)s
order by m.symbol, m.session

-- name: mark_partial
update session_answers a set partial = m.because is not null, partial_because = m.because
from unnest(%(symbol)s::text[], %(session)s::date[], %(because)s::text[]) as m (symbol, session, because)
where a.symbol = m.symbol and a.timeframe = %(timeframe)s and a.session = m.session
  and (a.partial, a.partial_because) is distinct from (m.because is not null, m.because)

-- name: last_bars
-- One lookup at the end of the primary key per series; `group by` would read every bar.
select s.symbol, t.timeframe, (
  select max(m."timestamp") from market_data m where m.symbol = s.symbol and m.timeframe = t.timeframe)
from unnest(%(symbols)s::text[]) as s (symbol)
cross join unnest(%(timeframes)s::text[]) as t (timeframe)
