"""Rules for the whole package that linters do not check: private imports, the environment at import, SQL in files."""

import ast
import re
from pathlib import Path

import backfill_assets

PACKAGE = Path(backfill_assets.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


# --- Dagster's private API

PRIVATE = re.compile(r"dagster\w*(\.\w+)*\._")
"""`dagster._core`, `dagster_graphql._x`: no part of Dagster's public API."""


def private_dagster_imports(tree):
    """Return imports of private Dagster modules, as by `import dagster._core` or `from dagster import _check`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if PRIVATE.match(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{a.name}" for a in node.names if PRIVATE.match(f"{node.module}.{a.name}")]
    return found


def test_private_dagster_modules_are_imported_in_deployment_only():
    assert {name(p).split("/")[0] for p in MODULES if private_dagster_imports(parsed(p))} == {"deployment"}


def test_definitions_is_the_only_module_at_the_top():
    assert sorted(p.name for p in PACKAGE.glob("*.py")) == ["__init__.py", "definitions.py"]


# --- The environment

READS = {"environ", "environb", "getenv", "getenvb"}


def environment_reads_at_import(tree):
    """Yield lines that name the environment and run at import: all but the bodies of functions."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if (isinstance(node, ast.Attribute) and node.attr in READS) or (
            isinstance(node, ast.ImportFrom) and node.module == "os" and READS & {a.name for a in node.names}
        ):
            yield node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # A default that is the mapping itself reads nothing.
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            pending += [
                *getattr(node, "decorator_list", ()),
                *(d for d in defaults if not isinstance(d, ast.Attribute)),
            ]
        else:
            pending += ast.iter_child_nodes(node)


def test_no_module_names_the_environment_outside_a_function():
    reads = {name(path): list(environment_reads_at_import(parsed(path))) for path in MODULES}
    assert {path: lines for path, lines in reads.items() if lines} == {}


# --- SQL

COMPOSED = {
    # Identifiers cannot be bound as parameters, and each of these is a constant of the module itself.
    ("deployment/storage.py", "_create_schema"): "the schema of Dagster's own tables",
    ("adapters/embedded_postgres/server.py", "_settled_url"): "the database of the embedded server",
    ("adapters/store/migrations/versions/0001_bars.py", "downgrade"): "the tables that the migration made",
    ("adapters/store/migrations/versions/0010_asset_keys.py", "_rename"): "tables, columns and patterns",
    ("adapters/store/migrations/versions/0010_asset_keys.py", "update"): "the same",
}


def composed_statements(tree):
    """Return functions that execute SQL composed in the call: by an f-string, +, % or .format()."""
    found = set()
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        for call in ast.walk(function):
            executes = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
            if executes and call.func.attr.startswith(("execute", "copy")) and any(map(_composed, call.args)):
                found.add(function.name)
    return found


def _composed(argument):
    """Return whether the SQL is composed in the call, also within sqlalchemy.text(…) and psycopg.sql.SQL(…)."""
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod) and _texts(node))
        or (isinstance(node, ast.Attribute) and node.attr == "format")
        for node in ast.walk(argument)
    )


def _texts(node):
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in (node.left, node.right))


def test_sql_is_composed_only_where_listed():
    found = {(name(path), function) for path in MODULES for function in composed_statements(parsed(path))}
    assert found == set(COMPOSED)
