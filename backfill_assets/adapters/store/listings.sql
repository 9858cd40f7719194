-- name: listings
select symbol, listed, delisted, checked_at from listings where symbol = any(%(symbols)s)

-- name: record_listing
insert into listings (symbol, listed, delisted, checked_at)
values (%(symbol)s, %(listed)s, %(delisted)s, %(checked_at)s)
on conflict (symbol) do update set
  listed = excluded.listed, delisted = excluded.delisted, checked_at = excluded.checked_at
