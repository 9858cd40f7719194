"""The SQL of the documentation, run as it is printed, and the tables that it describes."""

import re

import psycopg
import pytest

from backfill_assets_tests.surroundings import PROJECT, rows

PAGES = sorted((PROJECT / "docs").rglob("*.md"))
QUERIES = [
    pytest.param(block, id=page.stem)
    for page in PAGES
    for block in re.findall(r"^```sql\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if re.match(r"(--.*\n)?(select|delete)\b", block, re.IGNORECASE)
]
OBJECTS = """
  select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
  union all select proname from pg_proc where pronamespace = 'public'::regnamespace"""
LEFT = """
  select nspname from pg_namespace where nspname = 'dagster'
  union all select relname from pg_class where relnamespace = 'public'::regnamespace
  union all select proname from pg_proc where pronamespace = 'public'::regnamespace
  union all select typname from pg_type where typnamespace = 'public'::regnamespace"""


def page(*path):
    return PROJECT.joinpath("docs", *path).read_text(encoding="utf-8")


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_of_the_pages_run(database_url, query):
    with psycopg.connect(database_url) as connection:
        connection.execute(query)


def test_the_queries_are_found():
    assert len(QUERIES) >= 10


def test_every_table_view_and_function_is_documented(database_url):
    reference = page("reference", "tables.md")
    assert [name for (name,) in rows(database_url, OBJECTS) if not re.search(rf"`{name}\b", reference)] == []


def test_removing_everything_leaves_nothing(used_database_url):
    (statements,) = re.findall(
        r"```sql\n(.*?)```", page("howto", "own-postgresql.md").partition("## Remove everything\n")[2], re.DOTALL
    )
    assert len(rows(used_database_url, LEFT)) > 1
    with psycopg.connect(used_database_url) as connection:
        connection.execute(statements)
    assert rows(used_database_url, LEFT) == []
