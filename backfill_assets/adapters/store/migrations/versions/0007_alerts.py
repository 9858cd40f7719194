"""Alerts and their deliveries."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        create table alerts (
          id bigint generated always as identity primary key,
          incident text not null,
          severity text not null check (severity in ('warning', 'critical')),
          sentence text not null,
          details jsonb not null,
          cure text,
          place jsonb not null,
          reminds boolean not null,
          opened_at timestamptz not null,
          told_severity text check (told_severity in ('warning', 'critical')),
          told_at timestamptz,
          recovered_at timestamptz,
          check ((told_severity is null) = (told_at is null))
        )""")
    op.execute("create unique index alerts_open on alerts (incident) where recovered_at is null")
    op.execute("""
        comment on table alerts is
          'One row an incident, from when it was found until it was seen to be over. recovered_at null: open. details: a
           table, its first row the names of the columns. told_at null: no channel was set up.'""")
    op.execute("""
        create table alert_deliveries (
          id bigint generated always as identity primary key,
          alert_id bigint not null references alerts on delete cascade,
          news text not null check (news in ('opened', 'worsened', 'reminded', 'recovered')),
          severity text check (severity in ('warning', 'critical')),
          title text not null,
          body text not null,
          channel text not null,
          created_at timestamptz not null,
          attempts integer not null default 0,
          next_attempt_at timestamptz not null,
          sending_until timestamptz,
          delivered_at timestamptz,
          error text,
          unique (alert_id, created_at, news, channel)
        )""")
    op.execute("create index alert_deliveries_waiting on alert_deliveries (channel, id) where delivered_at is null")
    op.execute("""
        comment on table alert_deliveries is
          'One row a message and channel, written with the change of its alert. channel: the scheme of an address in
           ALERT_URLS, and its number among those of that scheme; never the address. delivered_at null: waits.
           sending_until: somebody is at it until then.'""")


def downgrade() -> None:
    """Drop the tables."""
    op.execute("drop table alert_deliveries")
    op.execute("drop table alerts")
