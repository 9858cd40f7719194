"""What a user can type or set stands in the documentation."""

import re
from datetime import UTC, datetime

import pytest

from backfill_assets.adapters import settings
from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.app import app
from backfill_assets_tests.support import PROJECT

TABLE = re.findall(r"^\| ([A-Z_]+) \|", settings.__doc__, re.MULTILINE)


def pages():
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def documentation():
    return "\n".join(page.read_text(encoding="utf-8") for page in pages() if page.exists())


def commands(typer_app, prefix="backfill"):
    for command in typer_app.registered_commands:
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}"
    for group in typer_app.registered_groups:
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


class Remembering(dict):
    """An empty environment that remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return default


@pytest.mark.parametrize("command", list(commands(app)))
def test_every_command_is_documented(command):
    assert re.search(rf"\b{re.escape(command)}\b", documentation())


@pytest.mark.parametrize("variable", TABLE)
def test_every_variable_is_documented(variable):
    assert re.search(rf"\b{variable}\b", documentation())


def test_the_table_of_variables_holds_those_that_are_read():
    environment = Remembering()
    Settings.read(environment).universe(datetime(2025, 7, 1, tzinfo=UTC).date())
    assert environment.asked == set(TABLE)


def test_the_commands_are_found():
    assert {"backfill run", "backfill db upgrade"} <= set(commands(app))
