"""The record of runs."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        create table backfill_runs (
          run_id text primary key,
          kind text not null,
          market text not null,
          trigger text not null,
          started_at timestamptz not null,
          finished_at timestamptz,
          status text not null check (status in ('started', 'succeeded', 'failed', 'canceled')),
          requests integer not null default 0,
          retried integer not null default 0,
          rate_limited integer not null default 0,
          bars_written bigint not null default 0,
          bars_changed bigint not null default 0,
          bars_unchanged bigint not null default 0,
          gaps_before integer not null default 0,
          gaps_after integer not null default 0,
          error text
        )""")
    op.execute("create index backfill_runs_started on backfill_runs (started_at)")
    op.execute("""
        comment on table backfill_runs is
          'One row a run; status started and no finished_at: under way, or its process was killed. Bars are those that
           the vendor gave; derived ones are not counted. gaps: of the run''s symbols, timeframes and days.'""")
    op.execute("""
        create table backfill_run_series (
          run_id text not null references backfill_runs on delete cascade,
          symbol text not null,
          timeframe text not null,
          sessions integer not null,
          missing_before integer not null,
          missing_after integer not null,
          bars_written bigint not null,
          bars_changed bigint not null,
          bars_unchanged bigint not null,
          error text,
          primary key (run_id, symbol, timeframe)
        )""")
    op.execute("""
        create table backfill_run_gaps (
          run_id text not null references backfill_runs on delete cascade,
          symbol text not null,
          timeframe text not null,
          gap_start date not null,
          gap_end date not null,
          sessions integer not null,
          reason text not null,
          attempts integer not null,
          outcome text not null check (outcome in ('filled', 'partly filled', 'explained', 'still open')),
          sessions_left integer not null,
          primary key (run_id, symbol, timeframe, gap_start)
        )""")
    op.execute("""
        comment on table backfill_run_gaps is
          'The gaps that a run found in its symbols, timeframes and days, as they stood before it, and what became of it.'""")
    op.execute("""
        create table backfill_run_restatements (
          run_id text not null references backfill_runs on delete cascade,
          symbol text not null,
          timeframe text not null,
          first_bar timestamptz not null,
          last_bar timestamptz not null,
          bars integer not null,
          primary key (run_id, symbol, timeframe, first_bar)
        )""")
    op.execute("""
        comment on table backfill_run_restatements is
          'Bars, by UTC day, whose stored values the vendor''s answer in this run changed.'""")


def downgrade() -> None:
    """Drop the tables."""
    op.execute("drop table backfill_run_restatements")
    op.execute("drop table backfill_run_gaps")
    op.execute("drop table backfill_run_series")
    op.execute("drop table backfill_runs")
