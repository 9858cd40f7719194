-- name: lock_events
-- Makes comparing and writing atomic: other writers wait, readers do not.
lock table corporate_events in share row exclusive mode

-- name: events
select symbol, kind, ex_date, ratio_from, ratio_to, cash_amount, currency, declared, record_date, pay_date, frequency, vendor_id,
  first_seen, changed_at, withdrawn_at
from corporate_events
where symbol = any(%(symbols)s)
order by symbol, ex_date, kind, size

-- name: write_event
insert into corporate_events as e (symbol, kind, ex_date, ratio_from, ratio_to, cash_amount, currency, declared, record_date,
  pay_date, frequency, vendor_id, first_seen, changed_at)
values (%(symbol)s, %(kind)s, %(ex_date)s, %(ratio_from)s, %(ratio_to)s, %(cash_amount)s, %(currency)s, %(declared)s,
  %(record_date)s, %(pay_date)s, %(frequency)s, %(vendor_id)s, %(now)s, %(now)s)
on conflict (symbol, kind, ex_date, size) do update set
  ratio_from = excluded.ratio_from, ratio_to = excluded.ratio_to, cash_amount = excluded.cash_amount,
  currency = excluded.currency, declared = excluded.declared, record_date = excluded.record_date,
  pay_date = excluded.pay_date, frequency = excluded.frequency, vendor_id = excluded.vendor_id,
  changed_at = excluded.changed_at, withdrawn_at = null

-- name: withdraw_event
update corporate_events set withdrawn_at = %(now)s, changed_at = %(now)s
where symbol = %(symbol)s and kind = %(kind)s and ex_date = %(ex_date)s and size = %(size)s

-- name: lookups
select symbol, ticker, since, checked_at from corporate_event_lookups where symbol = any(%(symbols)s)

-- name: record_lookup
-- Keeps an earlier `since`, unless the ticker has changed.
insert into corporate_event_lookups as l (symbol, ticker, since, checked_at)
values (%(symbol)s, %(ticker)s, %(since)s, %(checked_at)s)
on conflict (symbol) do update set
  ticker = excluded.ticker,
  since = case when l.ticker = excluded.ticker then least(l.since, excluded.since) else excluded.since end,
  checked_at = excluded.checked_at

-- name: split_jumps
-- The last close before each day with splits and the first open from it on, at most a week apart.
select d.symbol, d.ex_date, d.expected, earlier.close, later.open
from (
  select e.symbol, e.ex_date, split_product(e.ratio_to) / split_product(e.ratio_from) as expected,
    e.ex_date::timestamp at time zone %(zone)s as at
  from corporate_events e
  where e.kind = 'split' and e.withdrawn_at is null and e.symbol = any(%(symbols)s) and e.ex_date <= %(until)s
  group by e.symbol, e.ex_date
) d
left join lateral (
  select m.close from market_data m
  where m.symbol = d.symbol and m.timeframe = '1d' and m."timestamp" < d.at and m."timestamp" >= d.at - interval '7 days'
  order by m."timestamp" desc limit 1
) earlier on true
left join lateral (
  select m.open from market_data m
  where m.symbol = d.symbol and m.timeframe = '1d' and m."timestamp" >= d.at and m."timestamp" < d.at + interval '7 days'
  order by m."timestamp" limit 1
) later on true
order by d.symbol, d.ex_date
