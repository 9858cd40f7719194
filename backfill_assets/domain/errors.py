"""The platform's exceptions.

BackfillError                   exit code 1
├── UsageMistake                exit code 2: the caller can correct it; nothing has run
│   ├── UniverseMistake         a line of the universe file
│   ├── SettingMistake          an environment variable or a file it names
│   └── NotStored               a symbol, timeframe or feature that the store does not have
├── StoreError                  PostgreSQL
│   ├── DatabaseUnavailable     no server answers, or the login is refused
│   ├── SchemaBehind            the tables are older (or newer) than the code
│   ├── EmptyStore              there are no bars to read
│   ├── UnusableBars            stored bars from which features cannot be computed
│   └── EmbeddedServerError     the bundled server could not be set up, started or stopped
├── ExportError                 the folder or bucket of an export cannot be read or written
└── VendorError                 Polygon, or another source
    ├── KeyRefused              the vendor's own 401, or no key: ends the run, never retried
    ├── NotEntitled             the vendor's own 403: the plan does not include it; never retried
    ├── NotFound                the vendor's own 404
    ├── BadRequest              any other 4xx of the vendor
    ├── SplitsUnknown           split-adjusted prices whose splits are not known
    ├── RateLimited             429 after the last attempt
    ├── VendorUnavailable       5xx, network, truncated response, ERROR in a 200, a proxy's refusal, after the last attempt
    │   └── VendorUnreachable   no attempt got a response; ends the run after several series in a row
    └── MalformedAnswer         a response that cannot be decoded, after the last attempt
        └── ContradictoryAnswer  one that contradicts itself or the request
"""

from __future__ import annotations


class BackfillError(Exception):
    """The base class. `str(error)` is one sentence for the user."""

    exit_code = 1


class UsageMistake(BackfillError):
    """A command, setting or file is wrong."""

    exit_code = 2


class UniverseMistake(UsageMistake):
    """The universe file is invalid; the sentence names file and line."""


class SettingMistake(UsageMistake):
    """An environment variable is invalid; the sentence names the variable and no secret."""


class NotStored(UsageMistake):
    """The store has no such symbol, timeframe or feature; the sentence names the nearest one."""


class StoreError(BackfillError):
    """PostgreSQL failed."""


class DatabaseUnavailable(StoreError):
    """No connection: no server listens, the login is refused, or the database does not exist."""


class SchemaBehind(StoreError):
    """The market tables are not at the revision that this code needs."""


class EmptyStore(StoreError):
    """The store has no bars yet."""


class EmbeddedServerError(StoreError):
    """The bundled PostgreSQL could not be found, set up, started or stopped."""


class ExportError(BackfillError):
    """The folder or bucket of an export cannot be read or written; the sentence contains no secret."""


class VendorError(BackfillError):
    """A vendor refused or failed. `status` is the HTTP status or None, `request_id` the vendor's, for support."""

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class KeyRefused(VendorError):
    """The API key is missing, unknown or revoked. Every other request would be refused too."""


class NotEntitled(VendorError):
    """The key is valid, but its plan does not include the requested data."""


class NotFound(VendorError):
    """The vendor does not know the resource."""


class BadRequest(VendorError):
    """The vendor rejected the request."""


class SplitsUnknown(VendorError):
    """Split-adjusted prices cannot be put back into the units of their day."""


class RateLimited(VendorError):
    """The last attempt was rate limited too."""


class VendorUnavailable(VendorError):
    """No attempt got a usable response: network, 5xx, truncated body, ERROR in a 200, a proxy's refusal."""


class VendorUnreachable(VendorUnavailable):
    """No attempt got a response: the network, a proxy or the host. The sentence names the host."""


class MalformedAnswer(VendorError):
    """A complete response could not be decoded."""


class ContradictoryAnswer(MalformedAnswer):
    """A response contradicts itself or the request: its counts, its ticker, its times or its order."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, however deeply it is nested."""
    error = group.exceptions[0]
    return first_error(error) if isinstance(error, BaseExceptionGroup) else error
