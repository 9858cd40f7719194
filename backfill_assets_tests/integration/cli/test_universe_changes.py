"""What `backfill up` finds of the universe file while it runs."""

from datetime import UTC, datetime

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.universe_changes import UniverseChanges
from backfill_assets.domain.universe import MOST_SYMBOLS
from backfill_assets_tests.integration.cli.conftest import UNIVERSE

OTHER = UNIVERSE.replace("MSFT", "SPY")
NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)


class Watched:
    """The looks at a universe file, and what was said."""

    def __init__(self, settings):
        self.file, self.said, self.now = settings.universe_file, [], NEW_YEARS_EVE
        self.look = UniverseChanges(settings, self.said.append, lambda: self.now)

    def write(self, text):
        self.file.write_text(text, encoding="utf-8")


@pytest.fixture
def watched(environment):  # noqa: ARG001  # the environment
    return Watched(Settings.read())


def test_nothing_is_loaded_anew_while_nothing_changes(watched):
    assert [watched.look() for _ in range(3)] == [False] * 3
    assert watched.said == []


def test_a_change_is_loaded_once_at_the_look_after_the_one_that_met_it(watched):
    watched.write(OTHER)
    assert [watched.look() for _ in range(4)] == [False, True, False, False]
    assert watched.said == ["Loading the universe anew."]


def test_a_file_that_is_still_being_written_is_waited_for(watched):
    for end in (10, 20, len(OTHER)):
        watched.write(OTHER[:end])
        assert not watched.look()
    assert watched.look()
    assert watched.said == ["Loading the universe anew."]


def test_a_mistake_is_told_once_and_what_it_is_corrected_to_is_loaded(watched):
    watched.write(OTHER.replace("symbols", "simbols"))
    assert [watched.look() for _ in range(3)] == [False] * 3
    (sentence,) = watched.said
    assert sentence.startswith(f"The universe as it was stays in use. {watched.file}, line 3: ")
    watched.write(OTHER)
    assert [watched.look() for _ in range(3)] == [False, True, False]


def test_a_file_that_is_gone_is_told_of(watched):
    watched.file.unlink()
    assert [watched.look() for _ in range(3)] == [False] * 3
    assert watched.said == [
        f"The universe as it was stays in use. {watched.file} does not exist; BACKFILL_UNIVERSE names the universe file."
    ]
    watched.write(UNIVERSE)
    assert [watched.look() for _ in range(2)] == [False, True]


def test_warnings_of_the_new_one_are_told(watched):
    many = ", ".join(f"S{number}" for number in range(MOST_SYMBOLS + 1))
    watched.write(f"markets: {{stocks: {{start: 2024-01-02, symbols: [{many}]}}}}")
    assert [watched.look() for _ in range(2)] == [False, True]
    assert watched.said[0] == "Loading the universe anew."
    assert watched.said[1].startswith(f"Market stocks has {MOST_SYMBOLS + 1} symbols: ")


def test_a_new_year_has_new_calendars(watched):
    watched.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert [watched.look() for _ in range(3)] == [False, True, False]
