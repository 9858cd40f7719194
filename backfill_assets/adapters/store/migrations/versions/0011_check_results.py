"""What the asset checks found last: alerts are sent from it."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        create table check_results (
          asset text not null,
          check_name text not null,
          passed boolean not null,
          severity text not null check (severity in ('warning', 'error')),
          sentence text not null,
          details jsonb not null,
          cure text,
          checked_at timestamptz not null,
          primary key (asset, check_name)
        )""")
    op.execute("""
        comment on table check_results is
          'One row a check of an asset, replaced by each evaluation. severity: how bad a failure is. details: a table, its
           first row the names of the columns. cure: the command that repairs it, null where there is none.'""")


def downgrade() -> None:
    """Drop the table."""
    op.execute("drop table check_results")
