-- name: write_check_result
insert into check_results as c (asset, check_name, passed, severity, sentence, details, cure, checked_at)
values (%(asset)s, %(check)s, %(passed)s, %(severity)s, %(sentence)s, %(details)s, %(cure)s, %(at)s)
on conflict (asset, check_name) do update set passed = excluded.passed, severity = excluded.severity,
  sentence = excluded.sentence, details = excluded.details, cure = excluded.cure, checked_at = excluded.checked_at
where c.checked_at <= excluded.checked_at

-- name: check_results
select asset, check_name, passed, severity, sentence, details, cure, checked_at
from check_results order by asset, check_name

-- name: lock_alerts
-- One process at a time compares the open alerts with what was found; idle as in lock_gaps.
select pg_advisory_xact_lock(hashtextextended('alerts', 0)), set_config('idle_in_transaction_session_timeout', '0', true)

-- name: open_alerts
select id, incident, severity, sentence, details, cure, place, reminds, opened_at, told_severity, told_at
from alerts where recovered_at is null
order by opened_at, id

-- name: open_alert
insert into alerts (incident, severity, sentence, details, cure, place, reminds, opened_at, told_severity, told_at)
values (%(incident)s, %(severity)s, %(sentence)s, %(details)s, %(cure)s, %(place)s, %(reminds)s, %(now)s,
  case when %(told)s then %(severity)s end, case when %(told)s then %(now)s::timestamptz end)
returning id

-- name: change_alert
update alerts set severity = %(severity)s, sentence = %(sentence)s, details = %(details)s, cure = %(cure)s,
  place = %(place)s, reminds = %(reminds)s,
  told_severity = case when %(told)s then %(severity)s else told_severity end,
  told_at = case when %(told)s then %(now)s else told_at end
where id = %(id)s

-- name: close_alert
update alerts set recovered_at = %(now)s where id = %(id)s

-- name: put_out
insert into alert_deliveries (alert_id, news, severity, title, body, channel, created_at, next_attempt_at)
select %(alert)s, %(news)s, %(severity)s, %(title)s, %(body)s, channel, %(now)s, %(now)s
from unnest(%(channels)s::text[]) as c (channel)

-- name: waiting
select id, channel, severity, title, body, created_at, attempts, next_attempt_at, error
from alert_deliveries where delivered_at is null
order by channel, id

-- name: open_gaps
select symbol, timeframe, gap_start, gap_end, sessions, reason, explained, attempts, next_attempt_at, detail
from backfill_gaps where not filled and symbol = any(%(symbols)s)

-- name: lock_channel
select pg_advisory_xact_lock(hashtextextended('alert_deliveries ' || %(channel)s, 0))

-- name: claim
-- One message a channel at a time; the messages of an alert in order.
update alert_deliveries set sending_until = %(until)s, attempts = attempts + 1, next_attempt_at = %(until)s
where id = (
  select w.id from alert_deliveries w
  where w.channel = %(channel)s and w.delivered_at is null and w.next_attempt_at <= %(now)s
    and not exists (
      select from alert_deliveries e
      where e.channel = w.channel and e.delivered_at is null and e.alert_id = w.alert_id and e.id < w.id)
    and not exists (
      select from alert_deliveries s
      where s.channel = w.channel and s.delivered_at is null and s.sending_until > %(now)s)
  order by w.next_attempt_at, w.id
  limit 1)
returning id, channel, severity, title, body, created_at, attempts, next_attempt_at, error

-- name: delivered
update alert_deliveries set delivered_at = %(now)s, sending_until = null, error = null where id = %(id)s

-- name: hurry
-- The channel works again: its other messages are due now.
update alert_deliveries set next_attempt_at = %(now)s
where channel = %(channel)s and delivered_at is null and sending_until is null and next_attempt_at > %(now)s

-- name: failed
update alert_deliveries set sending_until = null, error = %(error)s, next_attempt_at = %(next)s where id = %(id)s

-- name: drop_told_elsewhere
-- Messages for removed channels that another channel has received or will receive.
delete from alert_deliveries d
where d.delivered_at is null and d.channel <> all(%(channels)s) and exists (
  select from alert_deliveries o
  where o.alert_id = d.alert_id and o.created_at = d.created_at and o.news = d.news and o.id <> d.id
    and (o.delivered_at is not null or o.channel = any(%(channels)s) or o.id < d.id))

-- name: hand_over
update alert_deliveries set channel = %(heir)s, attempts = 0, error = null, sending_until = null, next_attempt_at = %(now)s
where delivered_at is null and channel <> all(%(channels)s)
