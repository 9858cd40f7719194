"""Gaps with their history, failed attempts, and listing dates."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables, and add failures, refusals and partial sessions to session_answers."""
    op.execute("alter table session_answers rename column empty_answers to answers")
    op.execute("update session_answers set answers = 1 where bars > 0")
    op.execute("""
        alter table session_answers
          alter column answers drop default,
          add column failures integer not null default 0,
          add column refused boolean not null default false,
          add column partial boolean not null default false""")
    op.execute("""
        create index session_answers_unwhole on session_answers (symbol, timeframe, session)
        where bars = 0 or partial""")
    op.execute("""
        comment on table session_answers is
          'One row a finished session that was asked for, written with its bars. answers: how often the vendor gave so many,
           0 where it never answered; failures: how often asking failed; refused: not in the vendor''s plan; partial: far
           fewer bars than in the symbol''s other sessions; answered_at: the last attempt that counts.'""")
    op.execute("""
        create table backfill_gaps (
          id bigint generated always as identity primary key,
          symbol text not null,
          timeframe text not null,
          gap_start date not null,
          gap_end date not null,
          sessions integer not null check (sessions > 0),
          reason text not null,
          explained boolean not null,
          attempts integer not null,
          next_attempt_at timestamptz,
          first_seen timestamptz not null,
          filled boolean not null default false,
          filled_at timestamptz,
          check (gap_start <= gap_end),
          check (filled = (filled_at is not null))
        )""")
    op.execute("""
        create unique index backfill_gaps_open on backfill_gaps (symbol, timeframe, gap_start) where not filled""")
    op.execute("""
        comment on table backfill_gaps is
          'Expected sessions that lack bars, as ranges of sessions. filled = false: open now. filled = true: closed at
          filled_at, by bars, or because the reason shows that nothing was to be expected (pre_listing, delisted).'""")
    op.execute("""
        create table listings (
          symbol text primary key,
          listed date,
          delisted date,
          checked_at timestamptz not null
        )""")
    op.execute("""
        comment on table listings is
          'First and last day of trading by the vendor''s reference data, null where it tells none; checked_at: when it
          was asked.'""")


def downgrade() -> None:
    """Drop the tables and the columns."""
    op.execute("drop table listings")
    op.execute("drop table backfill_gaps")
    op.execute("drop index session_answers_unwhole")
    op.execute("delete from session_answers where bars = 0 and answers = 0")
    op.execute("update session_answers set answers = 0 where bars > 0")
    op.execute("""
        alter table session_answers
          drop column failures,
          drop column refused,
          drop column partial,
          alter column answers set default 0""")
    op.execute("alter table session_answers rename column answers to empty_answers")
