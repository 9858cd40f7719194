"""Search for secrets in everything that the platform wrote: tables of all schemas, files, output.

assert not find_secrets({"the key": KEY}, database_url=url, folders=[data], texts={"stdout": result.out})
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

import psycopg
from psycopg import sql

_SHORTEST = 6
"""Shorter secrets appear by chance in hashes and numbers."""

_TABLES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname not like 'pg\\_%%' order by 1, 2
"""


def find_secrets(
    secrets: Mapping[str, str],
    *,
    database_url: str | None = None,
    folders: Iterable[Path] = (),
    texts: Mapping[str, str | bytes] | None = None,
    own_files: Iterable[Path] = (),
) -> list[str]:
    """Return one line for each place and secret: "table dagster.runs: the key". Never the secret itself.

    secrets       secrets by name
    database_url  all tables of all schemas are searched
    folders       all files below them are searched, and their paths
    texts         output, by name
    own_files     files that hold a secret on purpose, such as the embedded server's `password`: skipped
    """
    wanted = {name: _forms(secret) for name, secret in secrets.items()}
    places = list(_in_texts(texts or {}, wanted))
    for folder in folders:
        places += _in_folder(folder, wanted, {path.resolve() for path in own_files})
    if database_url is not None:
        places += _in_database(database_url, wanted)
    return places


def secrets_in_urls(*addresses: str) -> dict[str, str]:
    """Return the secrets in addresses like those of ALERT_URLS: password, user, and each longer part of the path.

    Covers `mailto://user:password@host` and `json://host/token`. Host, port and parameters are not secret.
    """
    secrets = dict[str, str]()
    for number, address in enumerate(addresses, start=1):
        parts = urlsplit(address)
        named = {"password": parts.password or "", "user": parts.username or ""}
        named |= {f"path {place}": part for place, part in enumerate(parts.path.split("/"))}
        secrets |= {
            f"{name} of address {number}": unquote(part) for name, part in named.items() if len(part) >= _SHORTEST
        }
    return secrets


def _forms(secret: str) -> tuple[bytes, ...]:
    """Return the encodings to search for: plain, URL, JSON, HTML, hexadecimal, and inside base64."""
    if len(secret) < _SHORTEST:
        raise ValueError(f"a secret of {len(secret)} characters is too short to search for")
    plain = secret.encode()
    inner = {base64.b64encode(b"\0" * shift + plain)[-(-shift * 8 // 6) : -4].rstrip(b"=") for shift in range(3)}
    written = {quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], html.escape(secret), plain.hex()}
    return tuple(sorted({plain, *(form.encode() for form in written), *(form for form in inner if len(form) > 5)}))


def _in_texts(texts: Mapping[str, str | bytes], wanted: Mapping[str, tuple[bytes, ...]]) -> Iterator[str]:
    for place, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        yield from (f"{place}: {name}" for name, forms in wanted.items() if any(form in content for form in forms))


def _in_folder(folder: Path, wanted: Mapping[str, tuple[bytes, ...]], left_out: set[Path]) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.resolve() not in left_out:
            yield from _in_texts({f"file {path}": path.read_bytes(), f"name of file {path}": str(path)}, wanted)


def _in_database(url: str, wanted: Mapping[str, tuple[bytes, ...]]) -> Iterator[str]:
    with psycopg.connect(url) as connection:
        for schema, table in connection.execute(_TABLES).fetchall():
            # A row cast to text shows every column, bytea in hexadecimal.
            rows = sql.SQL("select exists (select from {} t where t::text like any(%s))").format(
                sql.Identifier(schema, table)
            )
            for name, forms in wanted.items():
                patterns = [f"%{_literal(form.decode())}%" for form in forms]
                if connection.execute(rows, [patterns]).fetchone() == (True,):
                    yield f"table {schema}.{table}: {name}"


def _literal(text: str) -> str:
    """Escape a text for LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
