"""The volume of each session, and its minutes by half hour: sessions are compared by them."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns. Sessions that are already stored are summarized when they are first judged, in their market's zone."""
    op.execute("alter table session_answers add column volume double precision, add column half_hours bytea")
    op.execute("""
        comment on column session_answers.volume is
          'The sum of the volumes of the session''s bars; null without bars, or until the session is judged.'""")
    op.execute("""
        comment on column session_answers.half_hours is
          'Of timeframe 1m: the number of bars in each half hour of the market''s day, a byte each; else null.'""")


def downgrade() -> None:
    """Drop the columns."""
    op.execute("alter table session_answers drop column volume, drop column half_hours")
