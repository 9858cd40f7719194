"""Contracts with Dagster: a workspace's code locations served beforehand, and loaded anew."""

import sys

import pytest
from dagster._core.workspace.load import location_origins_from_yaml_paths

from backfill_assets.deployment.code_locations import code_locations, reload_code, workspace_of
from backfill_assets.domain.errors import SettingMistake
from backfill_assets_tests.support import PROJECT

OTHERS = """
load_from:
  - python_file: {relative_path: here.py, location_name: here, executable_path: /opt/other/bin/python}
  - grpc_server: {host: elsewhere, port: 4266, location_name: there, ssl: true}
"""


def test_the_projects_own_workspace_is_one_location_that_is_served_from_its_module():
    (ours,) = code_locations(PROJECT / "workspace.yaml")
    assert ours.name == "backfill_assets"
    assert ours.command is not None
    assert ours.command[:5] == (sys.executable, "-m", "dagster", "code-server", "start")
    assert ("-m", "backfill_assets.definitions") in zip(ours.command, ours.command[1:], strict=False)


def test_what_is_served_already_stays_where_it_is_and_another_python_is_used_where_one_is_named(tmp_path):
    (tmp_path / "workspace.yaml").write_text(OTHERS)
    here, there = code_locations(tmp_path / "workspace.yaml")
    assert here.command is not None
    assert here.command[0] == "/opt/other/bin/python"
    assert "--use-python-environment-entry-point" in here.command
    assert str(tmp_path / "here.py") in here.command
    assert there.command is None
    assert there.served_at(tmp_path / "socket") == there


def test_the_workspace_that_names_the_servers_is_one_that_dagster_reads(tmp_path):
    (tmp_path / "workspace.yaml").write_text(OTHERS)
    served = [one.served_at(tmp_path / "0.sock") for one in code_locations(tmp_path / "workspace.yaml")]
    (tmp_path / "served.yaml").write_text(workspace_of(served))
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
def test_a_workspace_that_cannot_be_read_is_one_sentence(text, why, tmp_path):
    file = tmp_path / "workspace.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingMistake) as raised:
        code_locations(file)
    sentence = str(raised.value)
    assert sentence.startswith(f"{file} cannot be read as a workspace of Dagster: ")
    assert why in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400


def test_a_server_that_is_gone_loads_nothing(tmp_path):
    assert not reload_code(tmp_path / "0.sock", seconds=20)
