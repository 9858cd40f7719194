"""The number of bars of each series, maintained by triggers: counting ten million rows is too slow for a page."""

from alembic import op

revision = "0009"
down_revision = "0008"

# A transition table holds the rows of one statement, so a COPY of a page takes one upsert. Checking that all rows are of one
# series is cheaper than grouping them. Rows changed by `on conflict do update` are not among the new rows of an insert.
TRIGGERS = """
  create function market_data_counted() returns trigger language plpgsql as $$
  declare
    first_symbol text;
    first_timeframe text;
    rows bigint;
    alike boolean;
  begin
    if tg_op = 'TRUNCATE' then
      delete from market_data_counts;
    elsif tg_op = 'INSERT' then
      select symbol, timeframe into first_symbol, first_timeframe from written limit 1;
      if not found then
        return null;
      end if;
      select count(*), count(*) = count(*) filter (where symbol = first_symbol and timeframe = first_timeframe)
      into rows, alike from written;
      if alike then
        insert into market_data_counts as c (symbol, timeframe, bars) values (first_symbol, first_timeframe, rows)
        on conflict (symbol, timeframe) do update set bars = c.bars + excluded.bars;
      else
        insert into market_data_counts as c (symbol, timeframe, bars)
        select symbol, timeframe, count(*) from written group by 1, 2 order by 1, 2
        on conflict (symbol, timeframe) do update set bars = c.bars + excluded.bars;
      end if;
    elsif tg_op = 'DELETE' then
      update market_data_counts c set bars = c.bars - gone.bars
      from (select symbol, timeframe, count(*) as bars from removed group by 1, 2) gone
      where (c.symbol, c.timeframe) = (gone.symbol, gone.timeframe);
    else
      update market_data_counts set bars = bars - 1 where (symbol, timeframe) = (old.symbol, old.timeframe);
      insert into market_data_counts as c (symbol, timeframe, bars) values (new.symbol, new.timeframe, 1)
      on conflict (symbol, timeframe) do update set bars = c.bars + 1;
    end if;
    return null;
  end $$;
  create trigger market_data_inserted after insert on market_data
    referencing new table as written for each statement execute function market_data_counted();
  create trigger market_data_deleted after delete on market_data
    referencing old table as removed for each statement execute function market_data_counted();
  create trigger market_data_truncated after truncate on market_data
    for each statement execute function market_data_counted();
  create trigger market_data_renamed after update of symbol, timeframe on market_data
    for each row when ((old.symbol, old.timeframe) is distinct from (new.symbol, new.timeframe))
    execute function market_data_counted()"""


def upgrade() -> None:
    """Count the stored bars while writers are locked out."""
    op.execute("lock table market_data in share row exclusive mode")
    op.execute("""
        create table market_data_counts (
          symbol text not null,
          timeframe text not null,
          bars bigint not null check (bars >= 0),
          primary key (symbol, timeframe)
        ) with (fillfactor = 50)""")
    op.execute("""
        comment on table market_data_counts is
          'How many rows market_data has of each series: kept by its triggers, in the transaction that changes it.'""")
    op.execute(TRIGGERS)
    op.execute("""
        insert into market_data_counts (symbol, timeframe, bars)
        select symbol, timeframe, count(*) from market_data group by 1, 2""")


def downgrade() -> None:
    """Drop triggers and counts."""
    op.execute("""
        drop trigger market_data_renamed on market_data;
        drop trigger market_data_truncated on market_data;
        drop trigger market_data_deleted on market_data;
        drop trigger market_data_inserted on market_data""")
    op.execute("drop function market_data_counted()")
    op.execute("drop table market_data_counts")
