"""When the process of a run was last seen alive."""

from alembic import op

revision = "0016"
down_revision = "0014"


def upgrade() -> None:
    """Add the column."""
    op.execute("alter table backfill_runs add column seen_at timestamptz")
    op.execute("""
        comment on column backfill_runs.seen_at is
          'When the process of the run last reported that it is alive, by the database''s clock.'""")


def downgrade() -> None:
    """Drop the column."""
    op.execute("alter table backfill_runs drop column seen_at")
