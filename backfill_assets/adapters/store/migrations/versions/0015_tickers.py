"""What the vendor knows of a ticker: whether it exists, and when its holder took it."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add columns to the listings, and create the table of ticker changes."""
    op.execute("""
        alter table listings
          add column ticker text,
          add column known boolean not null default true,
          add column likely text not null default ''""")
    op.execute("""
        comment on table listings is
          'First and last day of trading by the vendor''s reference data, null where it has none; checked_at: when they were
           looked up. ticker: the ticker that was looked up, null in rows of older versions; known: whether the vendor knows
           it; likely: the symbol that is probably meant if it does not.'""")
    op.execute("""
        create table ticker_changes (
          symbol text not null,
          day date not null,
          ticker text not null,
          source text not null,
          checked_at timestamptz not null,
          primary key (symbol, day)
        )""")
    op.execute("""
        comment on table ticker_changes is
          'The tickers that a symbol''s instrument had: from `day` on it is `ticker`. source: who says so; checked_at: when
           it was looked up.'""")


def downgrade() -> None:
    """Drop the table and the columns."""
    op.execute("drop table ticker_changes")
    op.execute("delete from listings where not known")
    op.execute("alter table listings drop column ticker, drop column known, drop column likely")
