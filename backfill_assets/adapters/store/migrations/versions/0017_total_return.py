"""Bars adjusted for splits and cash dividends."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the function of the factors, and the view."""
    op.execute("""
        create function adjustment_stretches(as_of date, dividends boolean, known_at timestamptz)
        returns table (symbol text, starts timestamptz, ends timestamptz, price float8, shares float8, uncertain boolean)
        language sql stable parallel safe
        begin atomic
          select s.symbol, coalesce(lead(s.at) over earlier, '-infinity'), s.at,
            split_product(s.before) over earlier / split_product(s.after) over earlier * split_product(s.kept) over earlier,
            split_product(s.before) over earlier / split_product(s.after) over earlier,
            bool_or(s.cash > 0 and s.kept is null) over earlier
          from (
            select d.symbol, d.ex_date, d.at, d.before, d.after, d.cash,
              case when d.cash = 0 then 1 when d.cash < c.close * d.before / d.after
                then 1 - d.cash / (c.close * d.before / d.after) end as kept
            from (
              select e.symbol, e.ex_date, e.ex_date::timestamp at time zone 'America/New_York' as at,
                split_product(e.ratio_from) as before, split_product(e.ratio_to) as after,
                coalesce(sum(e.cash_amount), 0) as cash
              from corporate_events e
              where e.ex_date <= adjustment_stretches.as_of
                and e.first_seen <= adjustment_stretches.known_at
                and coalesce(e.withdrawn_at > adjustment_stretches.known_at, true)
                and (e.kind = 'split' or adjustment_stretches.dividends and coalesce(e.currency, 'USD') = 'USD')
              group by e.symbol, e.ex_date
            ) d
            left join lateral (
              select k.close from (
                select m."timestamp", m.close from market_data m
                where m.symbol = d.symbol and m.timeframe = '1d'
                  and m."timestamp" < d.at and m."timestamp" >= d.at - interval '7 days'
                  and m.ingested_at <= adjustment_stretches.known_at
                union all
                select h."timestamp", h.close from market_data_history h
                where h.symbol = d.symbol and h.timeframe = '1d'
                  and h."timestamp" < d.at and h."timestamp" >= d.at - interval '7 days'
                  and h.ingested_at <= adjustment_stretches.known_at
                  and h.changed_at > adjustment_stretches.known_at
              ) k
              order by k."timestamp" desc limit 1
            ) c on d.cash > 0
          ) s
          window earlier as (partition by s.symbol order by s.ex_date desc);
        end""")
    op.execute("""
        comment on function adjustment_stretches is
          'As split_stretches, also for cash dividends in US dollars if `dividends`, by what was known at an instant:
           multiply prices by price, divide volumes by shares. A dividend multiplies earlier prices by 1 - cash / the last
           daily close before its ex-date, in the shares of the ex-date. uncertain: a dividend is left out, because there is
           no such close in the week before it, or it is not above the cash.'""")
    op.execute("""
        create view market_data_total_return as
        select m.symbol, m.timeframe, m."timestamp",
          m.open * coalesce(s.price, 1) as open, m.high * coalesce(s.price, 1) as high,
          m.low * coalesce(s.price, 1) as low, m.close * coalesce(s.price, 1) as close,
          m.volume / coalesce(s.shares, 1) as volume, m.vwap * coalesce(s.price, 1) as vwap,
          m.trades, m.source, m.ingested_at
        from market_data m
        left join adjustment_stretches((now() at time zone 'America/New_York')::date, true, 'infinity') s
          on s.symbol = m.symbol and m."timestamp" >= s.starts and m."timestamp" < s.ends""")
    op.execute("""
        comment on view market_data_total_return is
          'market_data in the shares of today, with cash dividends reinvested: see adjustment_stretches. A bar goes by its
           start, so a weekly bar with an ex-date inside it is not exact.'""")


def downgrade() -> None:
    """Drop both. Bars are not affected."""
    op.execute("drop view market_data_total_return")
    op.execute("drop function adjustment_stretches")
