"""Record runs over features and corporate actions: one Dagster run may work on several markets and kinds."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add kind and market to every key."""
    op.execute("""
        alter table backfill_run_series drop constraint backfill_run_series_run_id_fkey,
          drop constraint backfill_run_series_pkey;
        alter table backfill_run_gaps drop constraint backfill_run_gaps_run_id_fkey,
          drop constraint backfill_run_gaps_pkey;
        alter table backfill_run_restatements drop constraint backfill_run_restatements_run_id_fkey,
          drop constraint backfill_run_restatements_pkey;
        alter table backfill_runs drop constraint backfill_runs_pkey, add primary key (run_id, kind, market),
          add features_written bigint not null default 0;
        alter table backfill_run_series add features_written bigint not null default 0""")
    op.execute("""
        alter table backfill_run_series add kind text, add market text;
        update backfill_run_series d set kind = r.kind, market = r.market from backfill_runs r where r.run_id = d.run_id;
        alter table backfill_run_series alter kind set not null, alter market set not null,
          add primary key (run_id, kind, market, symbol, timeframe),
          add foreign key (run_id, kind, market) references backfill_runs on delete cascade""")
    op.execute("""
        alter table backfill_run_gaps add kind text, add market text;
        update backfill_run_gaps d set kind = r.kind, market = r.market from backfill_runs r where r.run_id = d.run_id;
        alter table backfill_run_gaps alter kind set not null, alter market set not null,
          add primary key (run_id, kind, market, symbol, timeframe, gap_start),
          add foreign key (run_id, kind, market) references backfill_runs on delete cascade""")
    op.execute("""
        alter table backfill_run_restatements add kind text, add market text;
        update backfill_run_restatements d set kind = r.kind, market = r.market
        from backfill_runs r where r.run_id = d.run_id;
        alter table backfill_run_restatements alter kind set not null, alter market set not null,
          add primary key (run_id, kind, market, symbol, timeframe, first_bar),
          add foreign key (run_id, kind, market) references backfill_runs on delete cascade""")
    op.execute("""
        comment on table backfill_runs is
          'One row for each kind of work and market of a run; status started and no finished_at: under way, or its process was
           killed. Bars are those that the vendor gave; derived ones are not counted. gaps: of the run''s symbols, timeframes
           and days. features_written: rows of market_features.'""")


def downgrade() -> None:
    """Keep only runs over bars, with the run id as key."""
    op.execute("""
        delete from backfill_runs where kind <> 'ohlcv';
        delete from backfill_runs r using backfill_runs other
        where other.run_id = r.run_id and (other.kind, other.market) < (r.kind, r.market)""")
    op.execute("""
        alter table backfill_run_series drop constraint backfill_run_series_run_id_kind_market_fkey,
          drop constraint backfill_run_series_pkey""")
    op.execute("""
        alter table backfill_run_gaps drop constraint backfill_run_gaps_run_id_kind_market_fkey,
          drop constraint backfill_run_gaps_pkey""")
    op.execute("""
        alter table backfill_run_restatements drop constraint backfill_run_restatements_run_id_kind_market_fkey,
          drop constraint backfill_run_restatements_pkey""")
    op.execute("""
        alter table backfill_runs drop constraint backfill_runs_pkey, add primary key (run_id),
          drop features_written""")
    op.execute("""
        alter table backfill_run_series drop kind, drop market, drop features_written,
          add primary key (run_id, symbol, timeframe),
          add foreign key (run_id) references backfill_runs on delete cascade""")
    op.execute("""
        alter table backfill_run_gaps drop kind, drop market, add primary key (run_id, symbol, timeframe, gap_start),
          add foreign key (run_id) references backfill_runs on delete cascade""")
    op.execute("""
        alter table backfill_run_restatements drop kind, drop market, add primary key (run_id, symbol, timeframe, first_bar),
          add foreign key (run_id) references backfill_runs on delete cascade""")
