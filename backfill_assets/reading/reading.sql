-- name: settings
-- A reader writes nothing, sees one state of the tables, and may pause between two batches.
select set_config('default_transaction_read_only', 'on', false),
  set_config('default_transaction_isolation', 'repeatable read', false),
  set_config('statement_timeout', %(timeout)s, false), set_config('idle_in_transaction_session_timeout', '0', false),
  set_config('timezone', 'UTC', false)

-- name: series
select symbol, timeframe from market_data_counts where bars > 0 order by symbol

-- name: symbols
select symbol from market_data_counts union select symbol from backfill_gaps union select symbol from corporate_events order by 1

-- name: around_the_clock
-- Symbols whose sessions begin at midnight UTC: they have bars before midnight New York, which stocks never have.
select s.symbol from unnest(%(symbols)s::text[]) as s (symbol)
where exists (
  select from unnest(array['1m', '1d']) as t (timeframe)
  cross join lateral (
    select a.session, a.first_bar from session_answers a
    where a.symbol = s.symbol and a.timeframe = t.timeframe and a.bars > 0 order by a.session desc limit 10
  ) a
  where a.first_bar < a.session::timestamp at time zone 'America/New_York')

-- name: stretches
-- Instants in microseconds since the epoch. Ascending.
select symbol, (extract(epoch from ends) * 1000000)::bigint, price, shares, uncertain
from adjustment_stretches(
  coalesce(%(as_of)s::date, (coalesce(%(known_at)s::timestamptz, now()) at time zone 'America/New_York')::date),
  %(dividends)s, coalesce(%(known_at)s::timestamptz, 'infinity'))
where symbol = any(%(symbols)s)
order by symbol, ends

-- name: bars
select m."timestamp", m.open, m.high, m.low, m.close, m.volume, coalesce(m.vwap, 'NaN') as vwap, coalesce(m.trades, -1) as trades
from market_data m
where m.symbol = %(symbol)s and m.timeframe = %(timeframe)s and m."timestamp" >= %(start)s and m."timestamp" < %(end)s
  and (%(source)s::text is null or m.source = %(source)s)
order by m."timestamp"

-- name: bars_with_features
-- Both tables in the order of their keys: a merge join.
select m."timestamp", m.open, m.high, m.low, m.close, m.volume, coalesce(m.vwap, 'NaN') as vwap, coalesce(m.trades, -1) as trades,
  {features}
from market_data m
left join market_features f on f.symbol = %(symbol)s and f.timeframe = %(timeframe)s and f."timestamp" = m."timestamp"
  and f."timestamp" >= %(start)s and f."timestamp" < %(end)s
where m.symbol = %(symbol)s and m.timeframe = %(timeframe)s and m."timestamp" >= %(start)s and m."timestamp" < %(end)s
  and (%(source)s::text is null or m.source = %(source)s)
order by m."timestamp"

-- name: bars_known
-- As they were at an instant: a change begins at the instant at which what it replaces ends.
select m."timestamp", m.open, m.high, m.low, m.close, m.volume, coalesce(m.vwap, 'NaN') as vwap, coalesce(m.trades, -1) as trades
from (
  select "timestamp", open, high, low, close, volume, vwap, trades, source from market_data
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
    and ingested_at <= %(known_at)s
  union all
  select "timestamp", open, high, low, close, volume, vwap, trades, source from market_data_history
  where symbol = %(symbol)s and timeframe = %(timeframe)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
    and ingested_at <= %(known_at)s and changed_at > %(known_at)s
) m
where %(source)s::text is null or m.source = %(source)s
order by m."timestamp"

-- name: features
select f."timestamp", {features}
from market_features f
where f.symbol = %(symbol)s and f.timeframe = %(timeframe)s and f."timestamp" >= %(start)s and f."timestamp" < %(end)s
order by f."timestamp"

-- name: gaps
select symbol, timeframe, gap_start as first_session, gap_end as last_session, sessions, reason, detail, explained, attempts,
  next_attempt_at, first_seen
from backfill_gaps
where not filled and (%(symbols)s::text[] is null or symbol = any(%(symbols)s))
  and (%(timeframes)s::text[] is null or timeframe = any(%(timeframes)s))
order by symbol, timeframe, gap_start

-- name: corporate_actions
select symbol, kind, ex_date, ratio_from, ratio_to, cash_amount, currency, declared, record_date, pay_date, frequency,
  first_seen, withdrawn_at
from corporate_events
where (%(symbols)s::text[] is null or symbol = any(%(symbols)s))
  and ex_date >= coalesce(%(start)s::date, '-infinity') and ex_date <= coalesce(%(end)s::date, 'infinity')
  and (withdrawn_at is null or %(withdrawn)s)
order by symbol, ex_date, kind, size
