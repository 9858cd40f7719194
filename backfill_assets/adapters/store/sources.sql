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
