import pytest

from backfill_assets.adapters import sql


def test_each_statement_stands_under_its_name():
    text = "-- About: all of it\n\n-- name: one\n-- 100 % of it\nselect 1\n  from t;\n\n--name:two_2\nselect %(a)s\n"
    assert sql._parse(text, "f.sql") == {"one": "select 1\n  from t", "two_2": "select %(a)s"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1", "line 1: SQL stands above"),
        ("-- name: a\nselect 1\n-- name: a\nselect 2", "line 3: the name 'a' is taken"),
        ("-- name: A b\nselect 1", "not lower_snake_case"),
        ("-- name: a\n-- nothing\n-- name: b\nselect 1", "no statement stands under a"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        sql._parse(text, "f.sql")


def test_a_packaged_file_is_read_once_and_not_to_be_changed():
    found = sql.statements("backfill_assets.adapters", "rate_limit.sql")
    assert set(found) == {"reserve", "generation", "push_back"}
    assert sql.statements("backfill_assets.adapters", "rate_limit.sql") is found
    with pytest.raises(TypeError):
        found["reserve"] = ""


def test_a_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError):
        sql.statements("backfill_assets.adapters", "nowhere.sql")
