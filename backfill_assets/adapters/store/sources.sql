-- name: files_read
select session, etag from flat_files_read
where market = %(market)s and timeframe = %(timeframe)s and session between %(start)s and %(end)s

-- name: record_file
insert into flat_files_read (market, timeframe, session, etag, modified, read_at)
values (%(market)s, %(timeframe)s, %(session)s, %(etag)s, %(modified)s, %(read_at)s)
on conflict (market, timeframe, session) do update set
  etag = excluded.etag, modified = excluded.modified, read_at = excluded.read_at

-- name: symbols_of_source
select distinct symbol from market_data
where symbol = any(%(symbols)s) and timeframe = %(timeframe)s and source = %(source)s
  and "timestamp" >= %(starts)s and "timestamp" < %(ends)s

-- name: record_difference
insert into source_differences
  (symbol, timeframe, session, other_source, only_stored, only_other, differing, example, compared_at)
values (%(symbol)s, %(timeframe)s, %(session)s, %(other_source)s, %(only_stored)s, %(only_other)s, %(differing)s,
  %(example)s, %(compared_at)s)
on conflict (symbol, timeframe, session, other_source) do update set
  only_stored = excluded.only_stored, only_other = excluded.only_other, differing = excluded.differing,
  example = excluded.example, compared_at = excluded.compared_at

-- name: forget_difference
delete from source_differences
where symbol = %(symbol)s and timeframe = %(timeframe)s and session = %(session)s and other_source = %(other_source)s

-- name: differences
select symbol, timeframe, session, other_source, only_stored, only_other, differing, example
from source_differences where symbol = any(%(symbols)s)
order by session desc, symbol, timeframe

-- name: fallback_answers
select symbol, timeframe, session, source, bars, answers, failures, answered_at, next_at, detail
from fallback_answers
where symbol = any(%(symbols)s) and timeframe = any(%(timeframes)s) and session between %(start)s and %(end)s

-- name: record_fallback
insert into fallback_answers
  (symbol, timeframe, session, source, bars, answers, failures, answered_at, next_at, detail)
values (%(symbol)s, %(timeframe)s, %(session)s, %(source)s, %(bars)s, %(answers)s, %(failures)s, %(answered_at)s, %(next_at)s,
  %(detail)s)
on conflict (symbol, timeframe, session, source) do update set
  bars = excluded.bars, answers = excluded.answers, failures = excluded.failures, answered_at = excluded.answered_at,
  next_at = excluded.next_at, detail = excluded.detail

-- name: witnessed
select symbol, min(session), max(session) from witness_bars
where source = %(source)s and symbol = any(%(symbols)s) group by symbol

-- name: record_witness
insert into witness_bars (symbol, session, source, open, high, low, close, volume, fetched_at)
select %(symbol)s, w.session, %(source)s, w.open, w.high, w.low, w.close, w.volume, %(fetched_at)s
from unnest(%(sessions)s::date[], %(open)s::float8[], %(high)s::float8[], %(low)s::float8[], %(close)s::float8[],
  %(volume)s::float8[]) as w (session, open, high, low, close, volume)
on conflict (symbol, session, source) do update set
  open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
  fetched_at = excluded.fetched_at

-- name: beside_witness
-- The sessions of a witness with the vendor's daily bar, or of which the vendor has answered that it has none.
select w.symbol, w.session, m.high, m.low, m.close, w.high, w.low, w.close
from witness_bars w
join session_answers a on a.symbol = w.symbol and a.timeframe = '1d' and a.session = w.session and a.filled_by is null
left join market_data m on m.symbol = w.symbol and m.timeframe = '1d'
  and m."timestamp" = w.session::timestamp at time zone %(zone)s
where w.source = %(source)s and w.symbol = any(%(symbols)s) and (a.bars > 0) = (m.symbol is not null)
  and (a.bars > 0 or a.answers > 0)
order by 1, 2
