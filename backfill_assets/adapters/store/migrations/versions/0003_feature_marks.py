"""Marks of stale features."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table and mark all stored bars, since no features exist yet."""
    op.execute("""
        create table feature_marks (
          id bigint generated always as identity primary key,
          symbol text not null,
          timeframe text not null,
          stale tstzrange not null check (not isempty(stale)),
          marked_at timestamptz not null default now()
        )""")
    op.execute("create index feature_marks_series on feature_marks (symbol, timeframe)")
    op.execute("""
        insert into feature_marks (symbol, timeframe, stale)
        select symbol, timeframe, tstzrange(null, null) from coverage where not isempty(filled)""")
    op.execute("""
        comment on table feature_marks is
          'Bars (by their start) whose features are to be computed, or computed again: written with the bars or the split
          that can reach them, taken away by the transaction that computes them.'""")


def downgrade() -> None:
    """Drop the table."""
    op.execute("drop table feature_marks")
