"""Which flat files were read, and how stored sessions differ from another source."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        create table flat_files_read (
            market text not null,
            timeframe text not null,
            session date not null,
            etag text not null,
            modified timestamptz not null,
            read_at timestamptz not null,
            primary key (market, timeframe, session)
        )
    """)
    op.execute("""
        comment on table flat_files_read is
        'The version of each flat file that was read for all symbols of a market; another ETag is a replaced file.'
    """)
    op.execute("""
        create table source_differences (
            symbol text not null,
            timeframe text not null,
            session date not null,
            other_source text not null,
            only_stored integer not null,
            only_other integer not null,
            differing integer not null,
            example text not null,
            compared_at timestamptz not null,
            primary key (symbol, timeframe, session, other_source)
        )
    """)
    op.execute("""
        comment on table source_differences is
        'Sessions whose stored bars differ from those of another source; neither is changed.'
    """)


def downgrade() -> None:
    """Drop the tables."""
    op.execute("drop table source_differences")
    op.execute("drop table flat_files_read")
