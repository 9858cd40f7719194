"""Looking for secrets in everything that the platform wrote: tables of every schema, files, and what it said.

assert not found({"the key": KEY}, database_url=url, folders=[data], texts={"stdout": said.out})
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
"""A shorter secret would be found by chance, in hashes and numbers."""

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
    """Where secrets stand, one line for each place and secret: "table dagster.runs: the key". Never the secret itself.

    secrets       what a secret is called, and the secret
    database_url  every row of every table of the database is read, whatever its schema
    folders       every file below them is read as bytes, and so is its path
    texts         what was said or answered, by a name
    own_files     files that are made to hold a secret, such as the embedded server's `password`: left out
    """
    wanted = {name: _forms(secret) for name, secret in secrets.items()}
    places = list(_in_texts(texts or {}, wanted))
    for folder in folders:
        places += _in_folder(folder, wanted, {path.resolve() for path in own_files})
    if database_url is not None:
        places += _in_database(database_url, wanted)
    return places


def secrets_in_urls(*addresses: str) -> dict[str, str]:
    """What is secret in addresses like those of ALERT_URLS: password, user, and each longer part of a path.

    For alerts of `mailto://user:password@host` and `json://host/token`. Host, port and parameters are no secrets.
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
    """How it could be written: as it is, in URLs, JSON, HTML, hexadecimal, and within any base64."""
    if len(secret) < _SHORTEST:
        raise ValueError(f"a secret of {len(secret)} characters would be found by chance")
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
            # A whole row as text shows every column, those of type bytea in hexadecimal, which is one of the forms.
            rows = sql.SQL("select exists (select from {} t where t::text like any(%s))").format(
                sql.Identifier(schema, table)
            )
            for name, forms in wanted.items():
                patterns = [f"%{_literal(form.decode())}%" for form in forms]
                if connection.execute(rows, [patterns]).fetchone() == (True,):
                    yield f"table {schema}.{table}: {name}"


def _literal(text: str) -> str:
    """A text as LIKE takes it to mean itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
