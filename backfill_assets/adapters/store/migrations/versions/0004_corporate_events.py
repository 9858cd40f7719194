"""Splits, dividends, and adjusted bars."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables, the functions for split factors, and the views of adjusted bars."""
    op.execute("""
        create table corporate_events (
          symbol text not null,
          kind text not null check (kind in ('split', 'dividend')),
          ex_date date not null,
          ratio_from float8 check (ratio_from > 0),
          ratio_to float8 check (ratio_to > 0),
          cash_amount float8 check (cash_amount >= 0),
          currency text,
          declared date,
          record_date date,
          pay_date date,
          frequency integer,
          vendor_id text,
          first_seen timestamptz not null,
          changed_at timestamptz not null,
          withdrawn_at timestamptz,
          size float8 not null generated always as (coalesce(ratio_to / ratio_from, cash_amount)) stored,
          primary key (symbol, kind, ex_date, size),
          check ((kind = 'split') = (ratio_from is not null and ratio_to is not null)),
          check ((kind = 'dividend') = (cash_amount is not null))
        )""")
    op.execute("""
        create index corporate_events_splits on corporate_events (symbol, ex_date)
        where kind = 'split' and withdrawn_at is null""")
    op.execute("""
        comment on table corporate_events is
          'Splits and cash dividends as the vendor lists them, doubled records once. ex_date: the first day in new shares, or
          without the dividend, in New York. size: new shares for an old one, or cash a share. withdrawn_at: the vendor
          lists it no longer, and it acts no longer.'""")
    op.execute("""
        create table corporate_event_lookups (
          symbol text primary key,
          ticker text not null,
          since date not null,
          checked_at timestamptz not null
        )""")
    op.execute("""
        comment on table corporate_event_lookups is
          'From which ex-date on the events of a symbol were asked for, and when this was last answered whole.'""")
    op.execute("""
        create aggregate split_product (float8) (sfunc = float8mul, stype = float8, initcond = '1', parallel = safe)""")
    # The bodies are parsed now and refer to tables by identity, regardless of a reader's search path.
    op.execute("""
        create function split_factor(symbol text, day date, as_of date) returns float8
        language sql stable strict parallel safe
        begin atomic
          select split_product(e.ratio_from) / split_product(e.ratio_to)
          from corporate_events e
          where e.symbol = split_factor.symbol and e.kind = 'split' and e.withdrawn_at is null
            and e.ex_date > split_factor.day and e.ex_date <= split_factor.as_of;
        end""")
    op.execute("""
        comment on function split_factor is
          'What a raw price of day is multiplied by, and a volume divided by, to be in the shares of as_of. Days in New York;
          1 where no split lies between, and for days after as_of.'""")
    # One row per split instead of one call per bar: readers join it, and symbols without splits have no rows.
    op.execute("""
        create function split_stretches(as_of date)
        returns table (symbol text, starts timestamptz, ends timestamptz, factor float8)
        language sql stable parallel safe
        begin atomic
          select s.symbol, coalesce(lead(s.at) over earlier, '-infinity'), s.at,
            split_product(s.before) over earlier / split_product(s.after) over earlier
          from (
            select e.symbol, e.ex_date, e.ex_date::timestamp at time zone 'America/New_York' as at,
              split_product(e.ratio_from) as before, split_product(e.ratio_to) as after
            from corporate_events e
            where e.kind = 'split' and e.withdrawn_at is null and e.ex_date <= split_stretches.as_of
            group by e.symbol, e.ex_date
          ) s
          window earlier as (partition by s.symbol order by s.ex_date desc);
        end""")
    op.execute("""
        comment on function split_stretches is
          'The stretches of a symbol that end with a split up to as_of, and the factor into the shares of as_of of bars that
          begin in them (starts included, ends not). What lies in none has the factor 1.'""")
    op.execute("""
        create view market_data_adjusted as
        select m.symbol, m.timeframe, m."timestamp",
          m.open * coalesce(s.factor, 1) as open, m.high * coalesce(s.factor, 1) as high,
          m.low * coalesce(s.factor, 1) as low, m.close * coalesce(s.factor, 1) as close,
          m.volume / coalesce(s.factor, 1) as volume, m.vwap * coalesce(s.factor, 1) as vwap,
          m.trades, m.source, m.ingested_at
        from market_data m
        left join split_stretches((now() at time zone 'America/New_York')::date) s
          on s.symbol = m.symbol and m."timestamp" >= s.starts and m."timestamp" < s.ends""")
    op.execute("""
        comment on view market_data_adjusted is
          'market_data in the shares of today: prices and vwap times the split factor, volume divided by it; not adjusted for
          dividends. A bar goes by its start, so a weekly bar with a split inside it is not exact.'""")
    op.execute("""
        create function market_data_as_of(as_of date)
        returns table (symbol text, timeframe text, "timestamp" timestamptz, open float8, high float8, low float8,
          close float8, volume float8, vwap float8, trades bigint, source text, ingested_at timestamptz)
        language sql stable parallel safe
        begin atomic
          select m.symbol, m.timeframe, m."timestamp",
            m.open * coalesce(s.factor, 1), m.high * coalesce(s.factor, 1),
            m.low * coalesce(s.factor, 1), m.close * coalesce(s.factor, 1),
            m.volume / coalesce(s.factor, 1), m.vwap * coalesce(s.factor, 1),
            m.trades, m.source, m.ingested_at
          from market_data m
          left join split_stretches(market_data_as_of.as_of) s
            on s.symbol = m.symbol and m."timestamp" >= s.starts and m."timestamp" < s.ends;
        end""")
    op.execute("""
        comment on function market_data_as_of is
          'market_data in the shares of a day (New York): as market_data_adjusted, by the splits up to that day. Bars after it
          are as they were traded.'""")


def downgrade() -> None:
    """Drop them. Bars are not affected."""
    op.execute("drop function market_data_as_of")
    op.execute("drop view market_data_adjusted")
    op.execute("drop function split_stretches")
    op.execute("drop function split_factor")
    op.execute("drop aggregate split_product (float8)")
    op.execute("drop table corporate_event_lookups")
    op.execute("drop table corporate_events")
