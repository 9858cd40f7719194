"""What the vendor changed and removed: the earlier values of bars, and sessions whose newer answer has fewer bars."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the table and the columns."""
    op.execute("""
        create table market_data_history (
          id bigint generated always as identity,
          symbol text not null,
          timeframe text not null,
          "timestamp" timestamptz not null,
          open float8 not null,
          high float8 not null,
          low float8 not null,
          close float8 not null,
          volume float8 not null,
          vwap float8,
          trades bigint,
          source text not null,
          ingested_at timestamptz not null,
          removed boolean not null,
          new_open float8,
          new_high float8,
          new_low float8,
          new_close float8,
          new_volume float8,
          new_vwap float8,
          new_trades bigint,
          new_source text,
          run_id text,
          changed_at timestamptz not null default statement_timestamp(),
          primary key (symbol, timeframe, "timestamp", id)
        )""")
    op.execute("""
        comment on table market_data_history is
          'Fetched bars that a later answer changed or removed, one row a change: the values from ingested_at to changed_at,
           and those that replaced them, null if the bar was removed. Derived bars follow from these and have no rows.'""")
    op.execute("create index market_data_history_changed_at on market_data_history (changed_at)")
    op.execute("alter table session_answers add column shrunk_at timestamptz, add column shrunk_digest bigint")
    op.execute("""
        comment on column session_answers.shrunk_at is
          'When more than a tenth of the stored bars were first missing from an answer; they are kept until it is confirmed;
           null if the last one does not.'""")
    op.execute("comment on column session_answers.shrunk_digest is 'The CRC-32 of the starts of the missing bars.'")
    op.execute("alter table backfill_runs add column bars_removed bigint not null default 0")
    op.execute("alter table backfill_run_series add column bars_removed bigint not null default 0")
    op.execute("alter table backfill_run_restatements add column bars_removed integer not null default 0")
    op.execute("""
        comment on table backfill_run_restatements is
          'Bars, by UTC day, whose stored values the vendor''s answer in this run changed, or that it removed.'""")


def downgrade() -> None:
    """Drop the table and the columns."""
    op.execute("alter table backfill_run_restatements drop column bars_removed")
    op.execute("alter table backfill_run_series drop column bars_removed")
    op.execute("alter table backfill_runs drop column bars_removed")
    op.execute("alter table session_answers drop column shrunk_at, drop column shrunk_digest")
    op.execute("drop table market_data_history")
