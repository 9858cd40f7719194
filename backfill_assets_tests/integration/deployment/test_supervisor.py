"""Which changes of the universe make `backfill up` reload its code, and what it says."""

from datetime import UTC, datetime

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.supervisor import UniverseWatcher
from backfill_assets.domain.universe import MOST_SYMBOLS

UNIVERSE = """
markets:
  stocks: {start: 2024-01-02, symbols: [AAPL, MSFT]}
  crypto: {start: 2024-01-01, symbols: [BTC]}
"""
OTHER = UNIVERSE.replace("MSFT", "SPY")
RELOADING = "Universe file changed; reloading."


class Watched:
    """A universe file, its watcher, a clock, and what was said."""

    def __init__(self, settings):
        self.file, self.said, self.now = settings.universe_file, [], datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
        self.changed = UniverseWatcher(settings, self.said.append, lambda: self.now).changed

    def write(self, text):
        self.file.write_text(text, encoding="utf-8")


@pytest.fixture
def watched(tmp_path, monkeypatch):
    file = tmp_path / "universe.yaml"
    file.write_text(UNIVERSE, encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(file))
    return Watched(Settings.read())


def test_an_unchanged_file_is_not_reloaded(watched):
    assert [watched.changed() for _ in range(3)] == [False] * 3
    assert watched.said == []


def test_a_change_is_reloaded_once_the_file_is_stable(watched):
    watched.write(OTHER)
    assert [watched.changed() for _ in range(4)] == [False, True, False, False]
    assert watched.said == [RELOADING]


def test_a_file_that_is_still_being_written_is_waited_for(watched):
    for end in (10, 20, len(OTHER)):
        watched.write(OTHER[:end])
        assert not watched.changed()
    assert watched.changed()
    assert watched.said == [RELOADING]


def test_a_mistake_is_reported_once_and_its_correction_is_reloaded(watched):
    watched.write(OTHER.replace("symbols", "simbols"))
    assert [watched.changed() for _ in range(3)] == [False] * 3
    (sentence,) = watched.said
    assert sentence.startswith(f"The previous universe stays in use: {watched.file}, line 3: ")
    watched.write(OTHER)
    assert [watched.changed() for _ in range(3)] == [False, True, False]


def test_a_removed_file_is_reported_and_reloaded_when_it_is_back(watched):
    watched.file.unlink()
    assert [watched.changed() for _ in range(3)] == [False] * 3
    (sentence,) = watched.said
    assert sentence.startswith(f"The previous universe stays in use: {watched.file} does not exist")
    watched.write(UNIVERSE)
    assert [watched.changed() for _ in range(2)] == [False, True]


def test_warnings_of_the_changed_universe_are_reported(watched):
    many = ", ".join(f"S{number}" for number in range(MOST_SYMBOLS + 1))
    watched.write(f"markets: {{stocks: {{start: 2024-01-02, symbols: [{many}]}}}}")
    assert [watched.changed() for _ in range(2)] == [False, True]
    assert watched.said[0] == RELOADING
    assert watched.said[1].startswith(f"Market stocks has {MOST_SYMBOLS + 1} symbols: ")


def test_a_new_year_reloads_the_calendars(watched):
    watched.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert [watched.changed() for _ in range(3)] == [False, True, False]
    assert watched.said == ["New year; reloading."]
