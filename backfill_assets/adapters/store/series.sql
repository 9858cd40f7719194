-- name: minute_sessions
select m.symbol, m.session, m.bars, m.half_hours, m.volume, d.volume, d.bars > 0, m.partial, m.partial_because
from session_answers m
left join session_answers d
  on d.symbol = m.symbol and d.timeframe = '1d' and d.session = m.session and d.filled_by is null
where m.timeframe = '1m' and m.bars > 0 and m.filled_by is null and m.symbol = any(%(symbols)s) and m.session between %(start)s and %(end)s
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

-- name: bars_by_symbol
select symbol, sum(bars)::int8 from market_data_counts group by symbol order by symbol

-- name: features_of
-- By timeframe with bars: the newest bar with features, and whether any bar is marked. Marks without an end are of later bars.
select c.timeframe, (
    select max(f."timestamp") from market_features f where f.symbol = c.symbol and f.timeframe = c.timeframe
  ), exists (
    select from feature_marks m join market_data b using (symbol, timeframe)
    where m.symbol = c.symbol and m.timeframe = c.timeframe and b."timestamp" >= coalesce(lower(m.stale), '-infinity')
      and b."timestamp" < coalesce(upper(m.stale), 'infinity'))
from market_data_counts c where c.symbol = %(symbol)s and c.bars > 0

-- name: restatements_of
select timeframe, ("timestamp" at time zone 'UTC')::date, count(*)::int, max(changed_at)
from market_data_history where symbol = %(symbol)s
group by 1, 2 order by max(changed_at) desc, 2 desc, 1 limit %(most)s

-- name: purge
-- Everything that is stored of symbols, but the records of runs. Returns the number of bars.
with gone as (delete from market_data where symbol = any(%(symbols)s) returning 1)
, features as (delete from market_features where symbol = any(%(symbols)s))
, marks as (delete from feature_marks where symbol = any(%(symbols)s))
, history as (delete from market_data_history where symbol = any(%(symbols)s))
, answers as (delete from session_answers where symbol = any(%(symbols)s))
, covered as (delete from coverage where symbol = any(%(symbols)s))
, gaps as (delete from backfill_gaps where symbol = any(%(symbols)s))
, listed as (delete from listings where symbol = any(%(symbols)s))
, changes as (delete from ticker_changes where symbol = any(%(symbols)s))
, events as (delete from corporate_events where symbol = any(%(symbols)s))
, compared as (delete from source_differences where symbol = any(%(symbols)s))
, fallback as (delete from fallback_answers where symbol = any(%(symbols)s))
, witnessed as (delete from witness_bars where symbol = any(%(symbols)s))
, lookups as (delete from corporate_event_lookups where symbol = any(%(symbols)s))
select count(*) from gone

-- name: purge_counts
-- After the statement above, whose triggers have counted its rows down.
delete from market_data_counts where symbol = any(%(symbols)s)
