"""Tokens of the API: what is kept of them is a name, a hash and a scope."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

_ENTRY = re.compile(r"([\w.-]{1,40}):([0-9a-f]{64}):(read|launch)", re.ASCII)


class Scope(IntEnum):
    """What a token allows; each includes those before it."""

    READ = 1
    LAUNCH = 2


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token; `digest` is the SHA-256 of its text in hexadecimal digits. A text of 256 random bits needs no slower hash."""

    name: str
    digest: str
    scope: Scope

    @classmethod
    def parse(cls, entry: str) -> ApiToken:
        """Parse `name:hash:scope`. Raises ValueError, which does not repeat the entry."""
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError("must be like name:hash:scope, as `backfill token new` prints it")
        return cls(match[1], match[2], Scope[match[3].upper()])

    @classmethod
    def new(cls, name: str, scope: Scope) -> tuple[str, ApiToken]:
        """Make a token; return its text, which is kept nowhere, and what to keep of it."""
        text = f"bf_{secrets.token_urlsafe(32)}"
        return text, cls(name, _digest(text), scope)

    def __str__(self) -> str:
        return f"{self.name}:{self.digest}:{self.scope.name.lower()}"


def known_token(tokens: Iterable[ApiToken], text: str) -> ApiToken | None:
    """Return the token with this text, compared with all of them in constant time."""
    digest = _digest(text)
    found = [token for token in tokens if hmac.compare_digest(token.digest, digest)]
    return found[0] if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
