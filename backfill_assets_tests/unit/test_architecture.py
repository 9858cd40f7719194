"""The rules that no single module can keep alone: direction, docstrings, the environment, SQL in its files."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import backfill_assets

PACKAGE = Path(backfill_assets.__file__).parent
PROJECT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = Path(sys.executable).parent


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_modules_are_found():
    assert len(MODULES) > 50


# --- Direction


def test_the_import_contracts_hold():
    check = subprocess.run(
        [SCRIPTS / "lint-imports", "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert "0 broken" in check.stdout


# --- Dagster's private API

PRIVATE = re.compile(r"dagster\w*(\.\w+)*\._")
"""`dagster._core`, `dagster_graphql._x`: modules that Dagster's public interface does not promise."""


def private_dagster_imports(tree):
    """Every import of a private Dagster module: `import dagster._core`, `from dagster import _check`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if PRIVATE.match(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{a.name}" for a in node.names if PRIVATE.match(f"{node.module}.{a.name}")]
    return found


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("import dagster._core.events", True),
        ("from dagster._core import events", True),
        ("from dagster import _check", True),
        ("from dagster_postgres._utils import x", True),
        ("def f():\n    from dagster._serdes import x", True),
        ("from dagster import asset", False),
        ("import dagster as dg", False),
    ],
)
def test_a_private_dagster_import_is_recognised(code, private):
    assert bool(private_dagster_imports(ast.parse(code))) is private


def test_private_dagster_modules_are_imported_in_deployment_only():
    assert {name(p).split("/")[0] for p in MODULES if private_dagster_imports(parsed(p))} == {"deployment"}


def test_only_definitions_stand_beside_the_packages():
    assert sorted(p.name for p in PACKAGE.glob("*.py")) == ["__init__.py", "definitions.py"]


# --- The environment

READS = {"environ", "environb", "getenv", "getenvb"}


def environment_reads(tree):
    """Every place that names the environment, with whether it stands in a function's body, so not at import."""
    found = []

    def visit(node, *, in_function):
        names_it = (isinstance(node, ast.Attribute) and node.attr in READS) or (
            isinstance(node, ast.ImportFrom) and node.module == "os" and READS & {a.name for a in node.names}
        )
        if names_it:
            found.append((node.lineno, in_function))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # Decorators, defaults and annotations are evaluated where the function is defined. A default that is the
            # mapping itself reads nothing: what stands in it is looked up when the function runs.
            body = node.body if isinstance(node.body, list) else [node.body]
            handed_on = [d for d in (*node.args.defaults, *node.args.kw_defaults) if isinstance(d, ast.Attribute)]
            for child in (*ast.iter_child_nodes(node), *ast.iter_child_nodes(node.args)):
                if child is not node.args and child not in handed_on:
                    visit(child, in_function=in_function or child in body)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, in_function=in_function)

    visit(tree, in_function=False)
    return found


@pytest.mark.parametrize(
    ("code", "at_import"),
    [
        ("import os\nx = os.environ['A']", True),
        ("from os import environ", True),
        ("import os\ndef f(x=os.getenv('A')): ...", True),
        ("import os\ndef f(*, x=os.environ['A']): ...", True),
        ("import os\n@g(os.environ)\ndef f(): ...", True),
        ("import os\nclass C:\n    x = os.environ.get('A')", True),
        ("import os\ndef f():\n    return os.environ['A']", False),
        ("import os\nf = lambda: os.getenv('A')", False),
        ("import os\nclass C:\n    def f(self):\n        return os.environ", False),
    ],
)
def test_a_read_of_the_environment_at_import_is_recognised(code, at_import):
    ((_, in_function),) = environment_reads(ast.parse(code))
    assert in_function is not at_import


def test_the_environment_as_a_default_is_no_read():
    assert environment_reads(ast.parse("import os\ndef f(a=os.environ, *, b=os.environ): ...")) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_names_the_environment_outside_a_function(path):
    assert [line for line, in_function in environment_reads(parsed(path)) if not in_function] == []


LISTENER = """
import importlib, json, os, pkgutil, sys, warnings
warnings.simplefilter("ignore")  # what other libraries say while they are imported is not asked here

class Listening(type(os.environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename in OWN:
            frame = frame.f_back
        by = frame.f_globals.get("__name__", "") if frame else ""
        if by.split(".")[0] == "backfill_assets":
            heard.append([by, key])
        return super().__getitem__(key)

heard, OWN = [], {__file__ if "__file__" in globals() else "<string>", os.__file__, "<frozen os>",
                  "<frozen _collections_abc>", importlib.import_module("_collections_abc").__file__}
os.environ.__class__ = Listening

imported = []
for folder in sys.argv[1:]:
    module = importlib.import_module(folder)
    imported.append(folder)
    for found in pkgutil.walk_packages(module.__path__, f"{folder}."):
        if not found.name.startswith("backfill_assets.adapters.store.migrations."):  # Alembic loads them by path
            importlib.import_module(found.name)
            imported.append(found.name)
print(json.dumps({"heard": heard, "imported": imported}))
"""


def listen(*folders, cwd=PROJECT, path=()):
    done = subprocess.run(
        [sys.executable, "-c", LISTENER, *folders],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_module_of_domain_adapters_and_pipelines_reads_the_environment_when_imported():
    folders = [f"backfill_assets.{folder}" for folder in ("domain", "adapters", "pipelines")]
    answer = listen(*folders)
    assert answer["heard"] == []
    assert set(folders) < set(answer["imported"])
    assert "backfill_assets.adapters.settings" in answer["imported"]


def test_a_read_when_imported_would_be_heard(tmp_path):
    inner = tmp_path / "backfill_assets" / "folder"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "loud.py").write_text("import os\nos.environ.get('HERE')\nos.getenv('THERE')\n'X' in os.environ\n")
    answer = listen("backfill_assets.folder", cwd=tmp_path, path=[tmp_path])
    assert [key for _, key in answer["heard"]] == ["HERE", "THERE", "X"]


# --- SQL

COMPOSED = {
    # Identifiers cannot be bound as parameters, and each of these is a constant of the module itself.
    ("deployment/storage.py", "_make_schema"): "the schema of Dagster's own tables",
    ("adapters/embedded_postgres/server.py", "_settled_url"): "the database of the embedded server",
    ("adapters/store/migrations/versions/0001_bars.py", "downgrade"): "the tables that the migration made",
    ("adapters/store/migrations/versions/0010_asset_keys.py", "_rename"): "tables, columns and patterns",
    ("adapters/store/migrations/versions/0010_asset_keys.py", "update"): "the same",
}


def composed_statements(tree):
    """Functions that execute text put together in place: an f-string, +, % or .format()."""
    found = set()
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        for call in ast.walk(function):
            executes = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
            if executes and call.func.attr.startswith(("execute", "copy")) and any(map(_composed, call.args)):
                found.add(function.name)
    return found


def _composed(argument):
    """Whether the text is put together in the call, also within sqlalchemy.text(…) and psycopg.sql.SQL(…)."""
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod) and _texts(node))
        or (isinstance(node, ast.Attribute) and node.attr == "format")
        for node in ast.walk(argument)
    )


def _texts(node):
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in (node.left, node.right))


@pytest.mark.parametrize(
    ("call", "composed"),
    [
        ('c.execute(f"drop {t}")', True),
        ('c.execute("drop " + t)', True),
        ('c.execute("drop %s" % t)', True),
        ('c.execute("drop {}".format(t))', True),
        ('c.execute(text(f"drop {t}"))', True),
        ('c.executemany(f"x {t}", rows)', True),
        ('c.execute("select %s", [t])', False),
        ('c.execute(SQL["merge"], series | {"a": 1})', False),
    ],
)
def test_a_statement_put_together_in_place_is_recognised(call, composed):
    assert bool(composed_statements(ast.parse(f"def f():\n    {call}"))) is composed


def test_sql_is_put_together_in_place_only_where_there_is_a_reason():
    found = {(name(path), function) for path in MODULES for function in composed_statements(parsed(path))}
    assert found == set(COMPOSED)


def test_the_listed_layers_are_packages():
    assert all(find_spec(f"backfill_assets.{folder}") for folder in ("domain", "adapters", "pipelines"))
