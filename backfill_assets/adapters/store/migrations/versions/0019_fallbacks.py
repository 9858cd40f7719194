"""Sessions that a fallback has filled, what each fallback answered, and the bars of witnesses."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Create the column and the tables."""
    op.execute("alter table session_answers add column filled_by text")
    op.execute("drop index session_answers_incomplete")
    op.execute("""
        create index session_answers_incomplete on session_answers (symbol, timeframe, session)
        where bars = 0 or partial or doubt is not null or filled_by is not null
    """)
    op.execute("""
        comment on column session_answers.filled_by is
        'The fallback whose bars are stored; null if they are the vendor''s. answers, failures and refused are the vendor''s.'
    """)
    op.execute("""
        create table fallback_answers (
            symbol text not null,
            timeframe text not null,
            session date not null,
            source text not null,
            bars integer not null,
            answers integer not null,
            failures integer not null,
            answered_at timestamptz not null,
            next_at timestamptz,
            detail text not null,
            primary key (symbol, timeframe, session, source)
        )
    """)
    op.execute("""
        comment on table fallback_answers is
        'What each fallback returned for a session; next_at is null if it is not asked again.'
    """)
    op.execute("""
        create table witness_bars (
            symbol text not null,
            session date not null,
            source text not null,
            open double precision not null,
            high double precision not null,
            low double precision not null,
            close double precision not null,
            volume double precision not null,
            fetched_at timestamptz not null,
            primary key (symbol, session, source)
        )
    """)
    op.execute("""
        comment on table witness_bars is
        'Daily bars of a second source, raw prices; they are compared with market_data, never copied into it.'
    """)


def downgrade() -> None:
    """Drop the tables and the column, and with them the bars of fallbacks, which nothing would tell from the vendor's."""
    op.execute("""
        create temp table filled on commit drop as
        select symbol, timeframe, session, filled_by from session_answers where filled_by is not null
    """)
    op.execute("""
        with names as (select distinct filled_by as name from filled)
        , gone as (
            delete from market_data m using names n where m.source in (n.name, 'derived_' || n.name) returning m.*
        ), features as (
            delete from market_features f using gone g
            where (f.symbol, f.timeframe, f."timestamp") = (g.symbol, g.timeframe, g."timestamp")
        )
        insert into market_data_history
            (symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at, removed)
        select symbol, timeframe, "timestamp", open, high, low, close, volume, vwap, trades, source, ingested_at, true
        from gone where source not like 'derived_%'
    """)
    op.execute("""
        update coverage c set filled = c.filled - f.days
        from (
            select symbol, timeframe, range_agg(daterange(session, session, '[]')) as days from filled group by 1, 2
        ) f where (f.symbol, f.timeframe) = (c.symbol, c.timeframe)
    """)
    op.execute("delete from session_answers where filled_by is not null")
    op.execute("drop table witness_bars")
    op.execute("drop table fallback_answers")
    op.execute("drop index session_answers_incomplete")
    op.execute("""
        create index session_answers_incomplete on session_answers (symbol, timeframe, session)
        where bars = 0 or partial or doubt is not null
    """)
    op.execute("alter table session_answers drop column filled_by")
