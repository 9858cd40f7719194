"""The code locations of a workspace, and which changes of the universe make `backfill up` reload its code."""

import json
import sys
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from dagster._core.workspace.load import location_origins_from_yaml_paths

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.supervisor import UniverseWatcher, code_locations, reload_code
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.domain.universe import MOST_SYMBOLS
from backfill_assets_tests.support import PROJECT

OTHERS = """
load_from:
  - python_file: {relative_path: here.py, location_name: here, executable_path: /opt/other/bin/python}
  - grpc_server: {host: elsewhere, port: 4266, location_name: there, ssl: true}
"""


def test_the_projects_workspace_is_one_location_served_from_its_module(tmp_path):
    (server,), commands = code_locations(PROJECT / "workspace.yaml", tmp_path)
    assert (server["location_name"], server["socket"]) == ("backfill_assets", str(tmp_path / "0.sock"))
    command = commands[tmp_path / "0.sock"]
    assert command[:5] == (sys.executable, "-m", "dagster", "code-server", "start")
    assert ("-m", "backfill_assets.definitions") in pairwise(command)


def test_running_servers_are_kept_and_others_are_started_with_the_named_python(tmp_path):
    (tmp_path / "workspace.yaml").write_text(OTHERS)
    servers, commands = code_locations(tmp_path / "workspace.yaml", tmp_path)
    ((socket, command),) = commands.items()
    assert socket == tmp_path / "0.sock"
    assert command[0] == "/opt/other/bin/python"
    assert "--use-python-environment-entry-point" in command
    assert str(tmp_path / "here.py") in command

    (tmp_path / "served.yaml").write_text(json.dumps({"load_from": [{"grpc_server": server} for server in servers]}))
    here, there = location_origins_from_yaml_paths([str(tmp_path / "served.yaml")])
    assert (here.location_name, here.socket, here.port) == ("here", str(tmp_path / "0.sock"), None)
    assert here.additional_metadata["python_file"] == str(tmp_path / "here.py")
    assert (there.location_name, there.host, there.port, there.use_ssl) == ("there", "elsewhere", 4266, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Could not parse a workspace config"),
        ("load_from: [", "expected the node content"),
        ("load_from: 3", "Value at path root:load_from must be list"),
        ("load_from: [{python_modul: x}]", 'unexpected config entry "python_modul"'),
        ("load_from: [{python_module: a}, {python_module: a}]", "multiple locations with the same name"),
        ("[1]", "is not one of"),
        (None, "No such file"),
    ],
)
def test_an_unreadable_workspace_is_reported_in_one_sentence(text, why, tmp_path):
    file = tmp_path / "workspace.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingMistake) as raised:
        code_locations(file, tmp_path)
    sentence = str(raised.value)
    assert sentence.startswith(f"Dagster cannot read {file}: ")
    assert why in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400


def test_reloading_a_server_that_is_gone_does_nothing(tmp_path):
    reload_code(tmp_path / "0.sock")


UNIVERSE = """
markets:
  stocks: {start: 2024-01-02, symbols: [AAPL, MSFT]}
  crypto: {start: 2024-01-01, symbols: [BTC]}
"""
OTHER = UNIVERSE.replace("MSFT", "SPY")
RELOADING = "Universe file changed; reloading."


class Watched:
    """A universe file, its watcher, a clock, and the messages."""

    def __init__(self, settings):
        self.file, self.messages, self.now = settings.universe_file, [], datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
        self.changed = UniverseWatcher(settings, self.messages.append, lambda: self.now).changed

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
    assert watched.messages == []


def test_a_change_is_reloaded_once_the_file_is_stable(watched):
    watched.write(OTHER)
    assert [watched.changed() for _ in range(4)] == [False, True, False, False]
    assert watched.messages == [RELOADING]


def test_a_file_is_not_reloaded_while_it_is_being_written(watched):
    for end in (10, 20, len(OTHER)):
        watched.write(OTHER[:end])
        assert not watched.changed()
    assert watched.changed()
    assert watched.messages == [RELOADING]


def test_an_invalid_file_is_reported_once_and_reloaded_when_corrected(watched):
    watched.write(OTHER.replace("symbols", "simbols"))
    assert [watched.changed() for _ in range(3)] == [False] * 3
    (sentence,) = watched.messages
    assert sentence.startswith(f"The previous universe stays in use: {watched.file}, line 3: ")
    watched.write(OTHER)
    assert [watched.changed() for _ in range(3)] == [False, True, False]


def test_a_removed_file_is_reported_and_reloaded_when_it_is_back(watched):
    watched.file.unlink()
    assert [watched.changed() for _ in range(3)] == [False] * 3
    (sentence,) = watched.messages
    assert sentence.startswith(f"The previous universe stays in use: {watched.file} does not exist")
    watched.write(UNIVERSE)
    assert [watched.changed() for _ in range(2)] == [False, True]


def test_warnings_of_the_changed_universe_are_reported(watched):
    many = ", ".join(f"S{number}" for number in range(MOST_SYMBOLS + 1))
    watched.write(f"markets: {{stocks: {{start: 2024-01-02, symbols: [{many}]}}}}")
    assert [watched.changed() for _ in range(2)] == [False, True]
    assert watched.messages[0] == RELOADING
    assert watched.messages[1].startswith(f"Market stocks has {MOST_SYMBOLS + 1} symbols: ")


def test_a_new_year_reloads_the_calendars(watched):
    watched.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert [watched.changed() for _ in range(3)] == [False, True, False]
    assert watched.messages == ["New year; reloading."]
