-- name: mark_rows
-- From each first changed bar to the last bar whose window of %(look_back)s bars includes a changed one, and to the end of the
-- session of the last changed bar. If fewer bars follow, the range has no end.
insert into feature_marks (symbol, timeframe, stale)
select %(symbol)s, %(timeframe)s, tstzrange(c.first, case when c.beyond < c.next_session then c.next_session else c.beyond end, '[)')
from (
  select w.first,
    coalesce((date_trunc('day', w.last at time zone %(zone)s) + interval '1 day') at time zone %(zone)s,
      w.last + interval '25 hours') as next_session,
    (select m."timestamp" from market_data m
      where m.symbol = %(symbol)s and m.timeframe = %(timeframe)s and m."timestamp" > w.last and not %(endless)s
      order by m."timestamp" offset %(look_back)s limit 1) as beyond
  from unnest(%(first)s::timestamptz[], %(last)s::timestamptz[]) as w (first, last)
) c

-- name: mark_weeks
-- The stored weeks from the one that contains the day: six days before it and some hours, because clocks may change.
insert into feature_marks (symbol, timeframe, stale)
select c.symbol, c.timeframe, tstzrange(%(first)s::timestamptz - interval '156 hours', null, '[)')
from coverage c
where c.symbol = %(symbol)s and c.timeframe = %(week)s and not isempty(c.filled)

-- name: mark_after
-- The rows affected by a split in every series of a symbol, from an instant on; a week is affected if any of its days is.
insert into feature_marks (symbol, timeframe, stale)
select c.symbol, c.timeframe, tstzrange(
  case when c.timeframe = %(week)s then %(at)s::timestamptz - interval '156 hours' else %(at)s end, (
    select m."timestamp" from market_data m
    where m.symbol = c.symbol and m.timeframe = c.timeframe and m."timestamp" >= %(at)s and c.timeframe <> all(%(endless)s)
    order by m."timestamp" offset %(look_back)s limit 1), '[)')
from coverage c
where c.symbol = %(symbol)s and not isempty(c.filled)
