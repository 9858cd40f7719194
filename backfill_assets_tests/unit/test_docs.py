"""Every command and every setting is documented."""

import re

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.app import app
from backfill_assets_tests.surroundings import PROJECT

VARIABLES = [
    name
    for field in Settings.model_fields.values()
    for name in getattr(field.validation_alias, "choices", [field.validation_alias])
]


def pages():
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def documentation():
    return "\n".join(page.read_text(encoding="utf-8") for page in pages() if page.exists())


def commands(typer_app, prefix="backfill"):
    for command in typer_app.registered_commands:
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}"
    for group in typer_app.registered_groups:
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


@pytest.mark.parametrize("command", list(commands(app)))
def test_every_command_is_documented(command):
    assert re.search(rf"\b{re.escape(command)}\b", documentation())


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_documented(variable):
    assert re.search(rf"\b{variable}\b", documentation())


def test_the_commands_are_found():
    assert {"backfill run", "backfill db upgrade"} <= set(commands(app))
