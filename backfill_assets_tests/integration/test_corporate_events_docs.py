"""The SQL of docs/howto/splits-and-dividends.md, run as printed, against the results that the page shows."""

import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

import psycopg
import pytest

from backfill_assets_tests.support import PROJECT, rows

PAGE = (PROJECT / "docs" / "howto" / "splits-and-dividends.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
NEW_YORK = ZoneInfo("America/New_York")

# day, open, high, low, close, volume
BARS = [
    (6, 1205, 1220, 1200, 1210, 6_000_000),
    (7, 1210, 1215, 1195, 1208, 4_000_000),
    (10, 121.5, 123, 120, 122, 31_000_000),
    (11, 122, 122.5, 120.5, 121, 22_000_000),
]


@pytest.fixture
def example(database_url):
    with psycopg.connect(database_url) as connection:
        for day, *bar in BARS:
            connection.execute(
                """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
                   values ('NVDA', '1d', %s, %s, %s, %s, %s, %s, 'polygon')""",
                [datetime(2024, 6, day, tzinfo=NEW_YORK), *bar],
            )
        connection.execute(
            """insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at)
               values ('NVDA', 'split', '2024-06-10', 1, 10, now(), now())"""
        )
        for ex_date, cash in (("2024-03-05", 0.04), ("2024-06-11", 0.01)):
            connection.execute(
                """insert into corporate_events (symbol, kind, ex_date, cash_amount, currency, first_seen, changed_at)
                   values ('NVDA', 'dividend', %s, %s, 'USD', now(), now())""",
                [ex_date, cash],
            )
    return database_url


def test_every_sql_example_shows_its_result():
    assert len(EXAMPLES) == PAGE.count("```sql") == 6


@pytest.mark.parametrize(("query", "shown"), EXAMPLES, ids=[query.split()[1] for query, _ in EXAMPLES])
def test_an_example_returns_what_the_page_shows(example, query, shown):
    heading, _, *lines = ([cell.strip() for cell in line.split("|")] for line in shown.splitlines())
    with psycopg.connect(example) as connection:
        assert [column.name for column in connection.execute(query).description] == heading
    assert [[_as_shown(value) for value in row] for row in rows(example, query)] == lines


def _as_shown(value):
    """Format a value as psql does."""
    if isinstance(value, date):
        return value.isoformat()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
