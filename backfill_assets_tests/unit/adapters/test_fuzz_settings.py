"""Random settings and universe files: they are read, or rejected with one line."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.errors import SettingMistake, UniverseMistake
from backfill_assets_tests.support import SOAK, read_settings
from backfill_assets_tests.unit.adapters.test_settings import VARIABLES

QUICK = settings(max_examples=5000 if SOAK else 150, suppress_health_check=[HealthCheck.function_scoped_fixture])

TODAY = date(2025, 6, 2)

WORDS = st.sampled_from(
    [
        *" |0|-1|1e309|nan|inf|٣|2_5|true|~nobody-of-that-name/x|/dev/null|../..|http://|http://[::1".split("|"),
        *"http://h:9|http://u:p@h|http://h/?q#f|ftp://h|postgresql://|postgresql://h:x/d|mailto://|%00|\uff11".split(
            "|"
        ),
        *("", "\x00", "\ud800", "a\nb", "x" * 5000, "postgresql://u:p@h:5432/d?sslmode=odd", "http://h:99999"),
    ]
)


@QUICK
@given(values=st.dictionaries(st.sampled_from(VARIABLES), WORDS | st.text(max_size=30), max_size=4))
def test_any_setting_is_read_or_rejected_by_name(values: dict[str, str]) -> None:
    try:
        read = read_settings(values)
    except SettingMistake as mistake:
        sentence = str(mistake)
        assert len(sentence.splitlines()) == 1, sentence
        assert any(name in sentence for name in values), sentence
    else:
        assert 0 < read.requests_per_second <= 1000
        assert not any(f"{secret}=" in repr(read) for secret in ("api_key", "database_url", "alert_urls"))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{p}'] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)
STOCKS = "markets: {{stocks: {{start: {start}, symbols: [{symbols}]}}}}"
INVALID_FILES = {
    "a bomb of aliases": BOMB,
    "a bomb as symbols": BOMB + "markets: {stocks: {start: 2024-01-02, symbols: *i}}",
    "a symbol that holds itself": "markets: {stocks: {start: 2024-01-02, symbols: &s [*s]}}",
    "nested deeply": "[" * 20_000,
    "mappings nested deeply": "{a: " * 5_000,
    "the year 0": STOCKS.format(start="0000-01-01", symbols="A"),
    "the last year": STOCKS.format(start="9999-12-31", symbols="A"),
    "another tag": STOCKS.format(start="!!python/object/apply:os.system [ls]", symbols="A"),
    "a symbol of another alphabet": STOCKS.format(start="2024-01-02", symbols="АAPL"),  # noqa: RUF001  # what is tried
    "a symbol with SQL": STOCKS.format(start="2024-01-02", symbols='"A\'; drop table market_data; --"'),
    "a symbol with a path": STOCKS.format(start="2024-01-02", symbols='"../../etc"'),
    "a byte order mark": "\ufeff" + STOCKS.format(start="2024-01-02", symbols="A,A"),
}


def universe_of(path: Path) -> None:
    """Read a universe as the program does: the result is a universe or one sentence."""
    try:
        universe = read_settings({"DAGSTER_HOME": str(path.parent), "BACKFILL_UNIVERSE": str(path)}).universe(TODAY)
    except UniverseMistake as mistake:
        assert len(str(mistake).splitlines()) == 1, str(mistake)  # noqa: PT017  # either outcome is right
    else:
        assert universe.markets


@pytest.mark.parametrize("name", INVALID_FILES)
def test_an_invalid_universe_is_a_mistake(name: str, tmp_path: Path) -> None:
    path = tmp_path / "universe.yaml"
    path.write_text(INVALID_FILES[name], encoding="utf-8")
    with pytest.raises(UniverseMistake) as caught:
        read_settings({"DAGSTER_HOME": str(tmp_path), "BACKFILL_UNIVERSE": str(path)}).universe(TODAY)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


@QUICK
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_universe_or_a_mistake(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "universe.yaml"
    path.write_bytes(content)
    universe_of(path)
