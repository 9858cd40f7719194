-- A row for each rate: `next_at` is the time of the next permit, `gen` is incremented by every push-back.
-- All times are the server's; clients only wait for differences.

-- name: reserve
-- The permit's time is the previous next_at, or now if nobody is waiting. A full interval follows each permit. A next_at
-- further ahead than any queue and push-back reach is from before a step back of the server's clock.
insert into rate_limit as r (name, next_at)
values (%(name)s, clock_timestamp() + make_interval(secs => %(interval)s))
on conflict (name) do update
set next_at = make_interval(secs => %(interval)s) + case
  when r.next_at > clock_timestamp() + make_interval(secs => %(furthest)s + 100 * %(interval)s) then clock_timestamp()
  else greatest(r.next_at, clock_timestamp()) end
returning
  extract(epoch from next_at - make_interval(secs => %(interval)s))::float8 as slot,
  extract(epoch from next_at - make_interval(secs => %(interval)s) - clock_timestamp())::float8 as wait,
  gen

-- name: generation
select gen from rate_limit where name = %(name)s

-- name: push_back
insert into rate_limit as r (name, next_at, gen)
values (%(name)s, clock_timestamp() + make_interval(secs => %(seconds)s), 1)
on conflict (name) do update
set next_at = greatest(r.next_at, clock_timestamp() + make_interval(secs => %(seconds)s)), gen = r.gen + 1
returning gen
