"""Every error that the platform raises on purpose.

BackfillError                   exit code 1
├── UsageMistake                exit code 2: the caller can mend it before anything ran
│   ├── UniverseMistake         a line of the universe file
│   └── SettingMistake          an environment variable or a file it names
├── StoreError                  PostgreSQL
│   ├── DatabaseUnavailable     nobody answers, or the login is refused
│   ├── SchemaBehind            the tables are older (or newer) than the code
│   ├── UnusableBars            stored bars that no feature can be computed from
│   └── EmbeddedServerError     the bundled server could not be set up, started or stopped
└── VendorError                 Polygon
├── KeyRefused              401, or no key at all: ends the run, never retried
├── NotEntitled             403: the plan does not include it; never retried
├── NotFound                404
├── BadRequest              any other 4xx
├── RateLimited             429 after the last attempt
├── VendorUnavailable       5xx, network, cut answers, ERROR in a 200, after the last attempt
│   └── VendorUnreachable   not one attempt was answered; ends the run where several series in a row meet it
└── MalformedAnswer         an answer that cannot be read, after the last attempt
"""

from __future__ import annotations


class BackfillError(Exception):
    """Root of the tree. `str(error)` is one sentence for a person."""

    exit_code = 1


class UsageMistake(BackfillError):
    """What was asked for cannot be done as it was written."""

    exit_code = 2


class UniverseMistake(UsageMistake):
    """The universe file says something that cannot be meant; the sentence names file and line."""


class SettingMistake(UsageMistake):
    """An environment variable has a value that cannot be used; the sentence names the variable, never a secret's value."""


class StoreError(BackfillError):
    """PostgreSQL did not do what it was asked for."""


class DatabaseUnavailable(StoreError):
    """No connection: nobody listens, the login is refused, or the database does not exist."""


class SchemaBehind(StoreError):
    """The market tables are not at the revision that this code was written for."""


class EmbeddedServerError(StoreError):
    """The bundled PostgreSQL could not be found, set up, started or stopped."""


class VendorError(BackfillError):
    """Polygon refused or failed. `status` is the HTTP status or None, `request_id` the vendor's own, for a support case."""

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class KeyRefused(VendorError):
    """The API key is missing, unknown or revoked. Whatever else was planned would be refused too."""


class NotEntitled(VendorError):
    """The key is good, the plan does not include what was asked for."""


class NotFound(VendorError):
    """The vendor does not know the resource."""


class BadRequest(VendorError):
    """The vendor calls the request wrong: a mistake of ours or a change of theirs."""


class RateLimited(VendorError):
    """Still told to slow down after the last attempt."""


class VendorUnavailable(VendorError):
    """Still no usable answer after the last attempt: network, 5xx, cut body, or ERROR in a 200."""


class VendorUnreachable(VendorUnavailable):
    """No attempt was answered at all: the network, a proxy, or the host itself. The sentence names the host."""


class MalformedAnswer(VendorError):
    """An answer arrived whole and cannot be read as what was asked for."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, however deeply it is nested."""
    error = group.exceptions[0]
    return first_error(error) if isinstance(error, BaseExceptionGroup) else error
