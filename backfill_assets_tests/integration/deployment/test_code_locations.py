"""Contracts with Dagster: the code locations of a workspace, the commands that serve them, and reloading them."""

import json
import sys
from itertools import pairwise

import pytest
from dagster._core.workspace.load import location_origins_from_yaml_paths

from backfill_assets.deployment.code_locations import code_locations, reload_code
from backfill_assets.domain.errors import SettingMistake
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


def test_running_servers_are_kept_and_others_are_started_with_the_python_that_is_named(tmp_path):
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
