"""The search for secrets finds one in each place where it looks, in each form, and tells of it without repeating it."""

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from backfill_assets_tests.secrets_search import found, secrets_of

SECRET = "S3cr3t&w0rd/with%marks_"  # noqa: S105  # nobody's
NAMED = {"the secret": SECRET}
FORMS = {
    "as it is": SECRET,
    "in an address": quote(SECRET, safe=""),
    "in HTML": html.escape(SECRET),
    "in JSON": json.dumps({"key": SECRET}),
    "in hexadecimal": SECRET.encode().hex(),
    "in base64": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "in base64, shifted by one": base64.b64encode(f"users:{SECRET}".encode()).decode(),
    "in base64, shifted by two": base64.b64encode(f"anyone:{SECRET}".encode()).decode(),
}
INNOCENT = "S3cr3t&w0rd"


@pytest.mark.parametrize("form", FORMS)
def test_a_text_with_it_is_named(form: str) -> None:
    texts = {"stdout": f"before {FORMS[form]} after", "stderr": INNOCENT}
    assert found(NAMED, texts=texts) == ["stdout: the secret"]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_it_is_named_and_files_that_are_made_for_it_are_not(form: str, tmp_path: Path) -> None:
    (tmp_path / "deep" / "down").mkdir(parents=True)
    for name in ("deep/down/a.log", "password"):
        (tmp_path / name).write_bytes(b"\xff\0" + FORMS[form].encode())
    (tmp_path / "innocent.log").write_text(INNOCENT, encoding="utf-8")
    places = found(NAMED, folders=[tmp_path], own_files=[tmp_path / "password"])
    assert places == [f"file {tmp_path}/deep/down/a.log: the secret"]


def test_a_files_own_name_is_searched(tmp_path: Path) -> None:
    (tmp_path / quote(SECRET, safe="")).touch()
    (place,) = found(NAMED, folders=[tmp_path])
    assert place.startswith("name of file ")


COLUMNS = {
    "text": SECRET,
    "varchar(99)": SECRET,
    "jsonb": json.dumps({"inner": [SECRET]}),
    "bytea": SECRET.encode(),
    "text[]": ["another", SECRET],
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("schema", ["public", "Odd Place"])
def test_a_row_with_it_is_named_by_its_table(column: str, schema: str, database_url: str) -> None:
    table = sql.Identifier(schema, "Odd Table")
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("create table {} (id int, hidden {}, nothing text)").format(table, sql.SQL(column)))
        connection.execute(sql.SQL("insert into {} values (1, %s), (2, null)").format(table), [COLUMNS[column]])
    assert found(NAMED, database_url=database_url) == [f"table {schema}.Odd Table: the secret"]


def test_every_table_is_read_also_a_part_and_a_copied_view(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table whole (day int, word text) partition by range (day)")
        connection.execute("create table part partition of whole for values from (0) to (9)")
        connection.execute("insert into whole values (1, %s)", [SECRET])
        connection.execute("create materialized view copied as select word from whole")
    assert found(NAMED, database_url=database_url) == [
        "table public.copied: the secret",
        "table public.part: the secret",
        "table public.whole: the secret",
    ]


def test_like_the_secret_is_not_the_secret(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table near (word text)")
        # what % and _ would match if they were taken as patterns
        connection.execute("insert into near values (%s), (%s)", ["S3cr3t&w0rd/with anything marksX", INNOCENT])
    assert found(NAMED, database_url=database_url) == []


def test_the_secret_itself_is_never_told(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(SECRET, encoding="utf-8")
    assert SECRET not in "".join(found(NAMED, folders=[tmp_path], texts={"stdout": SECRET}))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="found by chance"):
        found({"short": "abc"}, texts={})


def test_what_is_secret_in_addresses() -> None:
    secrets = secrets_of("mailto://somebody:pass%2Fword@example.org:25?to=a", "json://example.org/short/longertoken")
    assert secrets == {
        "password of address 1": "pass/word",
        "user of address 1": "somebody",
        "path 2 of address 2": "longertoken",
    }
