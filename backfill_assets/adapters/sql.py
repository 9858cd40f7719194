"""Read SQL statements from files."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADING = re.compile(r"--\s*name:\s*(\S.*?)\s*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def statements(package: str, file: str) -> Mapping[str, str]:
    """Return the statements of `file` in `package` by name, read once per process.

    Each statement follows a line `-- name: reserve`. Lines with only a comment are removed, since a percent sign in them
    would be a placeholder. ValueError for duplicate names, names not in lower_snake_case, empty statements, or SQL before
    the first name.
    """
    return MappingProxyType(_parse(files(package).joinpath(file).read_text(encoding="utf-8"), f"{package}/{file}"))


def _parse(text: str, where: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := _HEADING.fullmatch(line.strip()):
            name = heading[1]
            if not _NAME.fullmatch(name) or name in found:
                raise ValueError(f"{where}, line {number}: the name {name!r} is a duplicate or not in lower_snake_case")
            lines = found[name] = []
        elif not line.strip() or line.lstrip().startswith("--"):
            continue
        elif lines is None:
            raise ValueError(f"{where}, line {number}: SQL before the first `-- name:` line")
        else:
            lines.append(line.rstrip())
    if empty := [name for name, body in found.items() if not body]:
        raise ValueError(f"{where}: no statement for {', '.join(empty)}")
    return {name: "\n".join(body).rstrip().removesuffix(";") for name, body in found.items()}
