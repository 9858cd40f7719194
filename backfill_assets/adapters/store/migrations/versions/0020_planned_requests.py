"""How many requests a run has planned."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Create the column."""
    op.execute("alter table backfill_runs add column planned_requests integer")
    op.execute("""
        comment on column backfill_runs.planned_requests is
        'The most requests that the plan of a run over bars takes, without retries; null if it is not known.'
    """)


def downgrade() -> None:
    """Drop the column."""
    op.execute("alter table backfill_runs drop column planned_requests")
