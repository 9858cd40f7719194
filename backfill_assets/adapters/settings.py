"""What the environment says, read once where a program starts and checked.

| variable | meaning | default |
|---|---|---|
| POLYGON_API_KEY | the vendor's key; only ever sent in a header | none |
| POLYGON_BASE_URL | where the vendor's API is | https://api.polygon.io |
| POLYGON_REQUESTS_PER_SECOND | the rate that all processes share | 2.5 |
| BACKFILL_RETRY_FIRST_PAUSE | seconds until an empty session is asked for again; each further pause is twice as long | 120 |
| BACKFILL_RETRY_ATTEMPTS | how often a session is asked for in all | 5 |
| ALERT_URLS | where alerts are sent, as apprise writes addresses; several with spaces, commas or lines between | none |
| ALERT_REPEAT_HOURS | after so many hours an alert that lasts is told again | 24 |
| DAGIT_URL | where people find Dagit, for the links in alerts | http://127.0.0.1:3000 |
| DATABASE_URL | a PostgreSQL of your own | the embedded server |
| BACKFILL_DATA_DIR | the data folder | .backfill in the project's folder |
| BACKFILL_UNIVERSE | the universe file | backfill_assets/universe.yaml |
| DAGSTER_HOME | the project's folder: where dagster.yaml is | found from the working folder |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from backfill_assets.domain.errors import KeyRefused, SettingMistake, UniverseMistake
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.universe import Universe
from backfill_assets.domain.universe_file import parse_universe

POLYGON = "https://api.polygon.io"
"""The vendor's host since its beginning; it serves next to api.massive.com."""

REQUESTS_PER_SECOND = 2.5
"""150 a minute: far under the 100 a second that the vendor asks paid plans to stay below."""

_DAY_SECONDS = 86_400
_MOST_ATTEMPTS = 20
"""With the default pause the last one is then 364 days long."""

REPEAT_HOURS = 24.0
_MOST_REPEAT_HOURS = 8760.0
"""A year."""

DAGIT = "http://127.0.0.1:3000"
"""Where `backfill up` puts it."""

# An address may hold commas: only one that another address follows ends it.
_BETWEEN_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z0-9]{1,16}://)")
_ADDRESS = re.compile(r"[A-Za-z0-9]{1,16}://[^\s]+")

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment's words, checked. Secrets are kept out of its repr."""

    project: Path
    data: Path
    universe_file: Path
    api_key: str | None = field(repr=False)
    base_url: str
    requests_per_second: float
    retries: Retries
    alert_urls: tuple[str, ...] = field(repr=False)
    alert_repeat: timedelta
    dagit_url: str
    database_url: str | None = field(repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """From environment variables; an empty one counts as unset. Raises SettingMistake."""
        project = _project(environ)
        return cls(
            project=project,
            data=_path(environ, "BACKFILL_DATA_DIR", project / ".backfill"),
            universe_file=_path(environ, "BACKFILL_UNIVERSE", _PACKAGE / "universe.yaml"),
            api_key=_api_key(environ),
            base_url=_base_url(environ),
            requests_per_second=_rate(environ),
            retries=_retries(environ),
            alert_urls=_alert_urls(environ),
            alert_repeat=_alert_repeat(environ),
            dagit_url=_dagit_url(environ),
            database_url=_database_url(environ),
        )

    def require_project(self) -> None:
        """Raise SettingMistake where the project's folder is none, before anything is made there."""
        for name in ("dagster.yaml", "workspace.yaml"):
            if not (self.project / name).is_file():
                raise SettingMistake(
                    f"{self.project} holds no {name}: run this in the project's folder, or set DAGSTER_HOME to it."
                )

    def require_key(self) -> None:
        """Raise KeyRefused where there is no key, before anything is asked for."""
        if self.api_key is None:
            raise KeyRefused("POLYGON_API_KEY is not set: put the key from the vendor's dashboard into it.")

    def universe(self, today: date) -> Universe:
        """The universe file, read and checked as of `today`. Raises UniverseMistake."""
        path = self.universe_file
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UniverseMistake(f"{path} does not exist; BACKFILL_UNIVERSE names the universe file.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UniverseMistake(f"{path} cannot be read: {error}.") from None
        return parse_universe(text, str(path), today)


def _project(environ: Mapping[str, str]) -> Path:
    if environ.get("DAGSTER_HOME"):
        return _path(environ, "DAGSTER_HOME", _PACKAGE)
    here = Path.cwd()
    for folder in (here, *here.parents, _PACKAGE.parent):
        if (folder / "dagster.yaml").is_file() and (folder / "workspace.yaml").is_file():
            return folder
    return here


def _path(environ: Mapping[str, str], name: str, default: Path) -> Path:
    value = environ.get(name)
    if not value:
        return default
    try:
        return Path(value).expanduser().resolve()
    except (RuntimeError, ValueError, OSError):  # no such user behind ~, a NUL character, links in a circle
        raise SettingMistake(f"{name} is no path that can be used: {value!r}.") from None


def _api_key(environ: Mapping[str, str]) -> str | None:
    key = environ.get("POLYGON_API_KEY", "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingMistake("POLYGON_API_KEY holds characters that no key has; copy it again from the vendor's page.")
    return key


def _base_url(environ: Mapping[str, str]) -> str:
    url = environ.get("POLYGON_BASE_URL") or POLYGON
    # What was typed is not repeated: somebody may have put a login or a key into it.
    sentence = f"POLYGON_BASE_URL is no address like {POLYGON}."
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingMistake(sentence) from None
    if not url.isprintable() or " " in url:
        raise SettingMistake(sentence)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingMistake(
            "POLYGON_BASE_URL must hold no login, query or fragment; the key goes into POLYGON_API_KEY."
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingMistake(sentence)
    return url.rstrip("/")


def _rate(environ: Mapping[str, str]) -> float:
    text = environ.get("POLYGON_REQUESTS_PER_SECOND") or str(REQUESTS_PER_SECOND)
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= 1000:
        raise SettingMistake(f"POLYGON_REQUESTS_PER_SECOND {text!r} is no number above 0 and up to 1000.")
    return rate


def _retries(environ: Mapping[str, str]) -> Retries:
    default = Retries()
    pause = environ.get("BACKFILL_RETRY_FIRST_PAUSE") or str(default.first_pause.total_seconds())
    attempts = environ.get("BACKFILL_RETRY_ATTEMPTS") or str(default.attempts)
    try:
        seconds = float(pause)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= _DAY_SECONDS:
        raise SettingMistake(f"BACKFILL_RETRY_FIRST_PAUSE {pause!r} is no number of seconds from 1 to {_DAY_SECONDS}.")
    if not (attempts.isascii() and attempts.isdigit() and 2 <= int(attempts[:4]) <= _MOST_ATTEMPTS):
        raise SettingMistake(f"BACKFILL_RETRY_ATTEMPTS {attempts!r} is no whole number from 2 to {_MOST_ATTEMPTS}.")
    return Retries(timedelta(seconds=seconds), int(attempts))


def _alert_urls(environ: Mapping[str, str]) -> tuple[str, ...]:
    text = environ.get("ALERT_URLS", "").strip(" ,\t\r\n")
    if not text:
        return ()
    urls = _BETWEEN_ADDRESSES.split(text)
    for number, url in enumerate(urls, start=1):
        # What was typed is not repeated: most of it is secret.
        if not _ADDRESS.fullmatch(url) or not url.isprintable() or not _splits(url):
            raise SettingMistake(f"ALERT_URLS: number {number} is no address like mailto://user:password@example.org.")
    return tuple(dict.fromkeys(urls))


def _splits(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def _alert_repeat(environ: Mapping[str, str]) -> timedelta:
    text = environ.get("ALERT_REPEAT_HOURS") or str(REPEAT_HOURS)
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= _MOST_REPEAT_HOURS:
        raise SettingMistake(
            f"ALERT_REPEAT_HOURS {text!r} is no number of hours above 0 and up to {_MOST_REPEAT_HOURS:g}."
        )
    return timedelta(hours=hours)


def _dagit_url(environ: Mapping[str, str]) -> str:
    url = environ.get("DAGIT_URL") or DAGIT
    # What was typed is not repeated: somebody may have put a login into it.
    sentence = (
        f"DAGIT_URL is no address like {DAGIT}; it must hold no login, query or fragment, as it stands in every alert."
    )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingMistake(sentence) from None
    extras = parts.username or parts.password or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not parts.hostname or extras or not url.isprintable() or " " in url:
        raise SettingMistake(sentence)
    return url.rstrip("/")


def _database_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("DATABASE_URL")
    if not url:
        return None
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"postgresql", "postgres"} and len(parts.path) > 1
        _ = parts.port
    except ValueError:
        fits = False
    if not fits:
        raise SettingMistake("DATABASE_URL is not of the form postgresql://user:password@host:5432/database.")
    return url
