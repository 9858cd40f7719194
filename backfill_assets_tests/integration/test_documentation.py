"""The SQL of the documentation, run as it is printed, and the tables that it describes."""

import re

import dagster as dg
import psycopg
import pytest

from backfill_assets_tests.support import PROJECT, rows

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


def python_example(*path):
    (code,) = re.findall(r"```python\n(.*?)```", page(*path), re.DOTALL)
    return code


def test_the_example_of_another_dagster_project_loads():
    defined = {"__name__": "example"}
    exec(python_example("howto", "use-in-another-dagster-project.md"), defined)  # noqa: S102  # our own page
    dg.Definitions.validate_loadable(defined["defs"])
    graph = defined["defs"].resolve_asset_graph()
    assert graph.get(dg.AssetKey(["signals"])).parent_keys == {dg.AssetKey(["stocks", "features_1d"])}


def test_every_table_view_and_function_is_documented(database_url):
    reference = page("reference", "tables.md")
    assert [name for (name,) in rows(database_url, OBJECTS) if not re.search(rf"`{name}\b", reference)] == []


def test_removing_everything_leaves_nothing(dagster_database_url):
    (statements,) = re.findall(
        r"```sql\n(.*?)```", page("howto", "own-postgresql.md").partition("## Remove everything\n")[2], re.DOTALL
    )
    assert len(rows(dagster_database_url, LEFT)) > 1
    with psycopg.connect(dagster_database_url) as connection:
        connection.execute(statements)
    assert rows(dagster_database_url, LEFT) == []
