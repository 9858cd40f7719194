-- name: old_events
-- The step logs of ended runs. Entries about assets and checks are left to the two statements below.
with gone as (
  delete from dagster.event_logs where id in (
    select e.id from dagster.event_logs e
    where e.timestamp < %(before)s
      and coalesce(e.dagster_event_type, '') not in
        ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION', 'ASSET_CHECK_EVALUATION', 'ASSET_FAILED_TO_MATERIALIZE')
      and not exists (
        select from dagster.runs r
        where r.run_id = e.run_id and r.status not in ('SUCCESS', 'FAILURE', 'CANCELED'))
    limit %(most)s)
  returning 1
)
select count(*) from gone

-- name: outdated_materializations
-- The Dagster UI shows the newest materialization of a partition; older ones are superseded.
with gone as (
  delete from dagster.event_logs where id in (
    select e.id from dagster.event_logs e
    where e.timestamp < %(before)s and e.dagster_event_type = 'ASSET_MATERIALIZATION'
      and exists (
        select from dagster.event_logs newer
        where newer.asset_key = e.asset_key and newer.dagster_event_type = 'ASSET_MATERIALIZATION'
          and newer.partition is not distinct from e.partition and newer.id > e.id)
    limit %(most)s)
  returning 1
)
select count(*) from gone

-- name: outdated_checks
-- The Dagster UI shows the newest evaluation of a check.
with gone as (
  delete from dagster.asset_check_executions where id in (
    select c.id from dagster.asset_check_executions c
    where c.create_timestamp < %(before)s
      and exists (
        select from dagster.asset_check_executions newer
        where newer.asset_key = c.asset_key and newer.check_name = c.check_name and newer.id > c.id)
    limit %(most)s)
  returning evaluation_event_storage_id
), events as (
  delete from dagster.event_logs where id in (select evaluation_event_storage_id from gone)
)
select count(*) from gone
