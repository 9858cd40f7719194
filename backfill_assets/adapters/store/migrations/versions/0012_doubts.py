"""Why sessions are not taken as complete, and the bars that were left out of answers."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns and the table."""
    op.execute("alter table session_answers add column doubt text, add column partial_because text")
    op.execute("""
        comment on column session_answers.doubt is
          'Why the last answer is not taken as the complete session, such as bars that were left out; null if it is.'""")
    op.execute("""
        comment on column session_answers.partial_because is
          'Why the session is judged to be partial; null if it is not, or was judged before this column was added.'""")
    op.execute("drop index session_answers_unwhole")
    op.execute("""
        create index session_answers_incomplete on session_answers (symbol, timeframe, session)
        where bars = 0 or partial or doubt is not null""")
    op.execute("alter table backfill_gaps add column detail text not null default ''")
    op.execute("comment on column backfill_gaps.detail is 'A clause that adds to the reason; it may be empty.'")
    op.execute("alter table backfill_run_series add column bars_rejected bigint not null default 0")
    op.execute("""
        create table backfill_run_rejected (
          run_id text not null,
          kind text not null,
          market text not null,
          symbol text not null,
          timeframe text not null,
          session date not null,
          start timestamptz not null,
          reason text not null,
          foreign key (run_id, kind, market) references backfill_runs on delete cascade
        )""")
    op.execute("create index backfill_run_rejected_run on backfill_run_rejected (run_id, kind, market)")
    op.execute("""
        comment on table backfill_run_rejected is
          'Bars that were left out of the vendor''s answers in a run, at most 100 a series; bars_rejected of
           backfill_run_series counts all of them.'""")


def downgrade() -> None:
    """Drop the table and the columns."""
    op.execute("drop table backfill_run_rejected")
    op.execute("alter table backfill_run_series drop column bars_rejected")
    op.execute("alter table backfill_gaps drop column detail")
    op.execute("drop index session_answers_incomplete")
    op.execute("""
        create index session_answers_unwhole on session_answers (symbol, timeframe, session)
        where bars = 0 or partial""")
    op.execute("alter table session_answers drop column doubt, drop column partial_because")
