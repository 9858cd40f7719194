"""The environment's words on alerts: taken, or refused in one sentence that tells no secret."""

from datetime import timedelta

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.errors import SettingMistake

SECRET = "S3cr3tW0rd"  # noqa: S105  # nobody's


def read(**environ):
    return Settings.read(environ)


def mistake(**environ):
    with pytest.raises(SettingMistake) as caught:
        read(**environ)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert SECRET not in sentence
    return sentence


def test_by_default_nobody_is_told():
    settings = read()
    assert settings.alert_urls == read(ALERT_URLS="").alert_urls == read(ALERT_URLS=" ,\n").alert_urls == ()
    assert settings.alert_repeat == timedelta(hours=24)
    assert settings.dagit_url == "http://127.0.0.1:3000"


@pytest.mark.parametrize("between", [" ", "\n", ", ", ",", "\n\n  ", " ,, "])
def test_addresses_may_be_parted_in_many_ways(between):
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
def test_what_is_no_address_is_refused_by_its_number(text, number):
    assert mistake(ALERT_URLS=text) == (
        f"ALERT_URLS: number {number} is no address like mailto://user:password@example.org."
    )


def test_addresses_stand_in_no_repr():
    settings = read(ALERT_URLS=f"json://u:{SECRET}@h")
    assert settings.alert_urls == (f"json://u:{SECRET}@h",)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(("text", "hours"), [("24", 24), ("0.5", 0.5), ("8760", 8760)])
def test_alerts_are_repeated_after_some_hours(text, hours):
    assert read(ALERT_REPEAT_HOURS=text).alert_repeat == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["0", "-1", "8761", "nan", "inf", "daily"])
def test_hours_that_make_no_sense_are_refused(text):
    assert mistake(ALERT_REPEAT_HOURS=text) == (
        f"ALERT_REPEAT_HOURS {text!r} is no number of hours above 0 and up to 8760."
    )


@pytest.mark.parametrize(
    ("text", "taken"),
    [("https://dagit.example.org/", "https://dagit.example.org"), ("http://h:3001/path", "http://h:3001/path")],
)
def test_dagit_is_where_people_find_it(text, taken):
    assert read(DAGIT_URL=text).dagit_url == taken


@pytest.mark.parametrize(
    "text", ["h:3000", "ftp://h", "http://", f"http://u:{SECRET}@h", "http://h/?x=1", "http://h:x", "http://h /"]
)
def test_what_is_no_address_of_dagit_is_refused(text):
    assert mistake(DAGIT_URL=text).startswith(
        "DAGIT_URL is no address like http://127.0.0.1:3000; it must hold no login"
    )
