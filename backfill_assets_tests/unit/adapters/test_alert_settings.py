"""Settings of alerts: read, or rejected in one sentence without a secret."""

from datetime import timedelta

import pytest

from backfill_assets.domain.errors import SettingMistake
from backfill_assets_tests.support import read_settings

SECRET = "S3cr3tW0rd"  # noqa: S105  # not a real one


def read(**environ):
    return read_settings(environ)


def mistake(**environ):
    with pytest.raises(SettingMistake) as caught:
        read(**environ)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert SECRET not in sentence
    return sentence


def test_no_alert_is_sent_by_default():
    settings = read()
    assert settings.alert_urls == read(ALERT_URLS="").alert_urls == read(ALERT_URLS=" ,\n").alert_urls == ()
    assert settings.alert_repeat == timedelta(hours=24)
    assert settings.dagster_ui_url == "http://127.0.0.1:3000"


@pytest.mark.parametrize("between", [" ", "\n", ", ", ",", "\n\n  ", " ,, "])
def test_addresses_may_be_separated_in_many_ways(between):
    urls = ("mailto://u:p@example.org?to=a@x.org,b@x.org", "slack://T1/B2/c3/#general", "jsons://h/p?a=1&b=2")
    text = between.join(urls)
    assert read(ALERT_URLS=f"\n {text} \n").alert_urls == urls


def test_the_same_address_twice_is_one():
    assert read(ALERT_URLS="json://a json://b json://a").alert_urls == ("json://a", "json://b")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (SECRET, 1),
        (f"mailto:u:{SECRET}@example.org", 1),
        (f"json://a\nmailto:{SECRET}@example.org", 1),  # belongs to the address before it, by the space in it
        (f"{SECRET} json://a", 1),
        (f"json://a slack://{SECRET} x", 2),
        (f"json://{SECRET}\x00", 1),
        (f"json://a json://[{SECRET}", 2),
        ("json://", 1),
    ],
)
def test_an_invalid_address_is_named_by_its_number(text, number):
    assert mistake(ALERT_URLS=text) == (
        f"ALERT_URLS must hold addresses like mailto://user:password@example.org; number {number} is not one."
    )


def test_the_repr_has_no_address():
    settings = read(ALERT_URLS=f"json://u:{SECRET}@h")
    assert settings.alert_urls == (f"json://u:{SECRET}@h",)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(("text", "hours"), [("24", 24), ("0.5", 0.5), ("8760", 8760)])
def test_hours_until_an_alert_is_repeated(text, hours):
    assert read(ALERT_REPEAT_HOURS=text).alert_repeat == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["0", "-1", "8761", "nan", "inf", "daily"])
def test_invalid_hours_are_rejected(text):
    assert mistake(ALERT_REPEAT_HOURS=text).startswith(f"ALERT_REPEAT_HOURS is {text!r}: input should be ")


@pytest.mark.parametrize(
    ("text", "taken"),
    [("https://dagit.example.org/", "https://dagit.example.org"), ("http://h:3001/path", "http://h:3001/path")],
)
def test_the_address_of_the_dagster_ui_loses_its_last_slash(text, taken):
    assert read(DAGSTER_UI_URL=text).dagster_ui_url == taken


def test_the_older_name_of_the_address_is_still_read():
    assert read(DAGIT_URL="http://old:3000").dagster_ui_url == "http://old:3000"
    assert read(DAGIT_URL="http://old:3000", DAGSTER_UI_URL="").dagster_ui_url == "http://old:3000"
    assert read(DAGIT_URL="http://old:3000", DAGSTER_UI_URL="http://new:3000").dagster_ui_url == "http://new:3000"


@pytest.mark.parametrize("name", ["DAGSTER_UI_URL", "DAGIT_URL"])
@pytest.mark.parametrize(
    "text", ["h:3000", "ftp://h", "http://", f"http://u:{SECRET}@h", "http://h/?x=1", "http://h:x", "http://h /"]
)
def test_an_invalid_address_of_the_dagster_ui_is_rejected(name, text):
    assert mistake(**{name: text}).startswith("DAGSTER_UI_URL (or DAGIT_URL) must ")
