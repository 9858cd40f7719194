import pytest

from backfill_assets.adapters import sql


def test_statements_are_found_by_name():
    text = "-- About: all of it\n\n-- name: one\n-- 100 % of it\nselect 1\n  from t;\n\n--name:two_2\nselect %(a)s\n"
    assert sql._parse(text, "f.sql") == {"one": "select 1\n  from t", "two_2": "select %(a)s"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1", "line 1: SQL before"),
        ("-- name: a\nselect 1\n-- name: a\nselect 2", "line 3: the name 'a' is a duplicate"),
        ("-- name: A b\nselect 1", "not in lower_snake_case"),
        ("-- name: a\n-- nothing\n-- name: b\nselect 1", "no statement for a"),
    ],
)
def test_an_invalid_file_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        sql._parse(text, "f.sql")


def test_a_packaged_file_is_read_once_and_immutable():
    found = sql.statements("backfill_assets.adapters", "rate_limit.sql")
    assert set(found) == {"reserve", "generation", "push_back"}
    assert sql.statements("backfill_assets.adapters", "rate_limit.sql") is found
    with pytest.raises(TypeError):
        found["reserve"] = ""


def test_a_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError):
        sql.statements("backfill_assets.adapters", "nowhere.sql")
