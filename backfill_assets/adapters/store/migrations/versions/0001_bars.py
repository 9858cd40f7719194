"""Bars, sessions, and the shared rate limit."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        create table market_data (
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
          ingested_at timestamptz not null default now(),
          primary key (symbol, timeframe, "timestamp")
        )""")
    op.execute("""
        comment on table market_data is
          'OHLCV bars as the vendor gave them: raw, unadjusted prices. timestamp is the start of the bar.'""")
    op.execute("""
        create table session_answers (
          symbol text not null,
          timeframe text not null,
          session date not null,
          bars integer not null check (bars >= 0),
          first_bar timestamptz,
          last_bar timestamptz,
          empty_answers integer not null default 0,
          answered_at timestamptz not null default now(),
          primary key (symbol, timeframe, session)
        )""")
    op.execute("""
        comment on table session_answers is
          'One row a finished session that the vendor has answered, written with its bars; bars = 0: answered with none,
           empty_answers times.'""")
    op.execute("""
        create table coverage (
          symbol text not null,
          timeframe text not null,
          filled datemultirange not null,
          primary key (symbol, timeframe)
        )""")
    op.execute("""
        comment on table coverage is
          'The sessions of a series that have bars, as one value: what session_answers says row by row, fast to subtract.'""")
    op.execute("""
        create table rate_limit (
          name text primary key,
          next_at timestamptz not null default '-infinity',
          gen bigint not null default 0
        ) with (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0)""")
    op.execute("""
        comment on table rate_limit is
          'When the next request may be sent, by any process; gen counts push-backs, which void reservations.'""")


def downgrade() -> None:
    """Drop the tables, with all bars."""
    for table in ("rate_limit", "coverage", "session_answers", "market_data"):
        op.execute(f"drop table {table}")
