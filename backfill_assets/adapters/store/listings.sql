-- name: listings
-- The first and the last stored bar are those of the bars that the vendor sent: a week also covers sessions without bars.
select l.symbol, l.listed, l.delisted, l.known, l.likely, b.first, b.last, t.days, t.tickers, l.ticker, l.checked_at
from listings l
cross join lateral (
  select min(lower(c.filled)) as first, max(upper(c.filled)) - 1 as last from coverage c
  where c.symbol = l.symbol and c.timeframe = any(%(sources)s) and not isempty(c.filled)) b
cross join lateral (
  select array_agg(c.day order by c.day) as days, array_agg(c.ticker order by c.day) as tickers from ticker_changes c
  where c.symbol = l.symbol) t
where l.symbol = any(%(symbols)s)

-- name: record_listing
insert into listings (symbol, listed, delisted, ticker, known, likely, checked_at)
values (%(symbol)s, %(listed)s, %(delisted)s, %(ticker)s, %(known)s, %(likely)s, %(checked_at)s)
on conflict (symbol) do update set
  listed = excluded.listed, delisted = excluded.delisted, ticker = excluded.ticker, known = excluded.known,
  likely = excluded.likely, checked_at = excluded.checked_at

-- name: forget_answers
-- That a ticker has no bars says nothing of the symbol while the vendor does not know it, or on days when it was another
-- company's: the sessions are requested again under the right one.
delete from session_answers a
where a.symbol = %(symbol)s and a.bars = 0 and case when %(known)s then a.session < %(taken)s::date else not exists (
  select from coverage c where c.symbol = %(symbol)s and not isempty(c.filled)) end

-- name: forget_changes
delete from ticker_changes where symbol = %(symbol)s

-- name: record_change
insert into ticker_changes (symbol, day, ticker, source, checked_at)
values (%(symbol)s, %(day)s, %(ticker)s, 'polygon', %(checked_at)s)
on conflict (symbol, day) do update set ticker = excluded.ticker

-- name: long_holes
-- Pairs of days with daily bars, more than `days` apart, with the last close and the first open around them.
with holes as (
  select c.symbol, upper(r.days) - 1 as last, lead(lower(r.days)) over (partition by c.symbol order by r.days) as first
  from coverage c cross join lateral unnest(c.filled) as r (days)
  where c.symbol = any(%(symbols)s) and c.timeframe = %(timeframe)s
)
select h.symbol, h.last, before.close, h.first, after.open, (
  select coalesce(exp(sum(ln(e.ratio_to / e.ratio_from))), 1) from corporate_events e
  where e.symbol = h.symbol and e.kind = 'split' and e.withdrawn_at is null and e.ex_date > h.last and e.ex_date <= h.first)
from holes h
cross join lateral (
  select m.close from market_data m
  where m.symbol = h.symbol and m.timeframe = %(timeframe)s
    and m."timestamp" < (h.last + 1)::timestamp at time zone %(zone)s
  order by m."timestamp" desc limit 1) before
cross join lateral (
  select m.open from market_data m
  where m.symbol = h.symbol and m.timeframe = %(timeframe)s and m."timestamp" >= h.first::timestamp at time zone %(zone)s
  order by m."timestamp" limit 1) after
where h.first - h.last > %(days)s
order by h.symbol, h.first
