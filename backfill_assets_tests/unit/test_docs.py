"""The documentation names what a user can type or set, its links resolve, and its generated parts are up to date."""

import ast
import re
import textwrap
from datetime import date

import pytest

from backfill_assets.cli.app import app
from backfill_assets.domain.universe_file import parse_universe
from backfill_assets_tests.support import PROJECT, script

PAGES = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]
DOCUMENTATION = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
FOLDERS = [PROJECT / folder for folder in ("", "backfill_assets", "backfill_assets/adapters", "backfill_assets_tests")]
"""Where the paths in the documentation begin."""
NAMES = {path.name for folder in FOLDERS for path in folder.iterdir() if path.is_dir() and path.name.isidentifier()}
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(NAMES)})/[\w/-]+\.(?:json|md|py|sql|yaml)\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")

GENERATOR = script("generate_reference")


def name(page):
    return str(page.relative_to(PROJECT))


def blocks(language):
    """Fenced blocks of a language in all pages, each with the name of its page."""
    for page in PAGES:
        for found, text in FENCED.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield pytest.param(textwrap.dedent(text), id=name(page))


def prose(page):
    """The lines of a page that are neither tables nor in fenced blocks; blank lines in the place of the blocks."""
    text = FENCED.sub(lambda block: "\n" * block.group().count("\n"), page.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if not line.lstrip().startswith("|")]


def anchors(page):
    """The anchors that GitHub gives to a page's headings."""
    for line in prose(page):
        if line.startswith("#"):
            yield re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")


def commands(typer_app, prefix="backfill"):
    for command in typer_app.registered_commands:
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}"
    for group in typer_app.registered_groups:
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


@pytest.mark.parametrize("page", GENERATOR.PAGES)
def test_generated_parts_are_up_to_date(page):
    committed = (GENERATOR.REFERENCE / page).read_text(encoding="utf-8")
    assert committed == GENERATOR.generated(page), "run .venv/bin/python scripts/generate_reference.py"


@pytest.mark.parametrize("command", list(commands(app)))
def test_every_command_is_documented(command):
    assert re.search(rf"\b{re.escape(command)}\b", DOCUMENTATION)


def test_the_commands_are_found():
    assert {"backfill run", "backfill db upgrade"} <= set(commands(app))


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_every_exit_code_is_documented(code):
    assert f"\n| {code} | " in (GENERATOR.REFERENCE / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_project_resolve(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in set(anchors(target)), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_files_of_the_project_that_are_named_exist(page):
    named = set(PATH.findall(page.read_text(encoding="utf-8")))
    assert [path for path in named if not any((folder / path).exists() for folder in FOLDERS)] == []


def test_the_page_of_the_private_api_lists_what_is_imported():
    text = (PROJECT / "docs" / "explanation" / "private-api.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (PROJECT / "backfill_assets" / "deployment").glob("*.py")]
    imports = [
        node
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and "._" in (node.module or "")
    ]
    imported = {node.module for node in imports} | {alias.name for node in imports for alias in node.names}
    assert [name for name in imported if f"`{name}`" not in text] == []
    assert set(re.findall(r"`(dagster\._[\w.]+)`", text)) <= imported


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_prose_has_no_line_over_120_characters(page):
    assert [line for line in prose(page) if len(line) > 120 and not line.startswith("![")] == []


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").split()) <= 600


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link and not link.startswith("#")
    }
    assert [name(page) for page in PAGES if page not in linked and page.name != "README.md"] == []


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "markets:" in block.values[0]])
def test_examples_of_the_universe_file_are_valid(text):
    assert parse_universe(text, "example", date(2026, 7, 1)).markets
