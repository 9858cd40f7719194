"""Settings from environment variables. Each field's alias is the variable and its description the documentation."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backfill_assets.domain.api_tokens import ApiToken
from backfill_assets.domain.errors import KeyRefused, SettingMistake, UniverseMistake
from backfill_assets.domain.retries import Retries
from backfill_assets.domain.universe import Universe
from backfill_assets.domain.universe_file import parse_universe

_PACKAGE = Path(__file__).resolve().parents[1]

# An address may contain commas: only one that another address follows ends it.
_BETWEEN_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z0-9]{1,16}://)")
_DATABASE = re.compile("/[^/@]+")
_HOST = r"[\w.-]+(?::\d{1,5})?"
_HOSTS = re.compile(f"(?P<login>[^@]*@)?(?P<hosts>{_HOST}(?:,{_HOST})+)", re.ASCII)
_DRIVER = re.compile(r"^postgresql\+(psycopg|psycopg2|asyncpg):")
_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_BUCKET = r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$"
_ADDRESS = re.compile(r"[A-Za-z0-9]{1,16}://[^\s]+")


def http_url(text: str) -> str:
    """Return an http(s) URL without its last slash. Raises ValueError, which never repeats the text: it may be secret."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not text.isprintable() or " " in text:
        raise ValueError("must be an address like https://example.org or http://127.0.0.1:3000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not contain a login, query or fragment")
    return text.rstrip("/")


def _path(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (RuntimeError, ValueError, OSError):  # ~ of an unknown user, a NUL character, a circle of links
        raise ValueError(f"is not a usable path: {str(path)!r}") from None


def _project() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents, _PACKAGE.parent):
        if (folder / "dagster.yaml").is_file() and (folder / "workspace.yaml").is_file():
            return folder
    return here


def valid_key(text: str) -> str | None:
    """Return the key without surrounding whitespace, None if nothing is left. Raises ValueError without the text."""
    key = text.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("contains characters that no API key has; copy it again from the vendor's dashboard")
    return key or None


def _alert_urls(text: str) -> tuple[str, ...]:
    urls = _BETWEEN_ADDRESSES.split(text.strip(" ,\t\r\n"))
    for number, url in enumerate(urls, start=1):
        try:
            urlsplit(url)
            valid = bool(_ADDRESS.fullmatch(url)) and url.isprintable()
        except ValueError:
            valid = False
        if not valid and urls != [""]:
            raise ValueError(f"must hold addresses like mailto://user:password@example.org; number {number} is not one")
    return tuple(filter(None, dict.fromkeys(urls)))


def _api_tokens(text: str) -> tuple[ApiToken, ...]:
    tokens = tuple(ApiToken.parse(entry) for entry in re.split(r"[\s,]+", text.strip(" ,\t\r\n")))
    if len({token.name for token in tokens}) < len(tokens):
        raise ValueError("must not have two tokens of one name")
    return tokens


def postgres_url(url: str) -> str:
    """Return the URL of a database. Raises ValueError, which never repeats the text: it may be secret.

    Several hosts, of which libpq takes one, become parameters, which all drivers know. SQLAlchemy's name of a driver, as in
    `postgresql+psycopg://`, is dropped.
    """
    url = _DRIVER.sub("postgresql:", url)
    try:
        parts = urlsplit(url)
        if several := _HOSTS.fullmatch(parts.netloc):
            names, _, ports = zip(*(host.partition(":") for host in several["hosts"].split(",")), strict=True)
            query = (f"host={','.join(names)}", *([f"port={','.join(ports)}"] if any(ports) else []), parts.query)
            parts = parts._replace(netloc=several["login"] or "", query="&".join(filter(None, query)))
            url = parts.geturl()
        valid = parts.scheme in {"postgresql", "postgres"} and bool(_DATABASE.fullmatch(parts.path)) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.netloc.count("@") > 1 or parts.fragment or _BARE_PERCENT.search(url):
        raise ValueError(
            "must be of the form postgresql://user:password@host:5432/database; in the password, write @ as %40, / as %2F, "
            "# as %23, ? as %3F and % as %25"
        )
    return url


class Settings(BaseSettings):
    """The settings of this process, validated. Fields that may hold a secret are not in its repr."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, env_ignore_empty=True, validate_default=False)

    project: Annotated[Path, AfterValidator(_path)] = Field(
        default_factory=_project,
        validation_alias="DAGSTER_HOME",
        description="The project's folder, which contains dagster.yaml; found from the working folder by default.",
    )
    data: Annotated[Path, AfterValidator(_path)] = Field(
        default_factory=lambda fields: fields["project"] / ".backfill",
        validation_alias="BACKFILL_DATA_DIR",
        description="The data folder; `.backfill` in the project's folder by default.",
    )
    universe_file: Annotated[Path, AfterValidator(_path)] = Field(
        default_factory=lambda: _PACKAGE / "universe.yaml",
        validation_alias="BACKFILL_UNIVERSE",
        description="The universe file; backfill_assets/universe.yaml by default.",
    )
    api_key: Annotated[str, AfterValidator(valid_key)] | None = Field(
        default=None,
        validation_alias="POLYGON_API_KEY",
        repr=False,
        description="The vendor's API key; only ever sent in a header.",
    )
    base_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="https://api.polygon.io",  # the vendor's original host; it serves beside api.massive.com
        validation_alias="POLYGON_BASE_URL",
        description="The address of the vendor's API.",
    )
    requests_per_second: float = Field(
        default=2.5,  # 150 a minute: far below the 100 a second that the vendor sets as the limit of paid plans
        validation_alias="POLYGON_REQUESTS_PER_SECOND",
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="The request rate that all processes share.",
    )
    files_access_key_id: Annotated[str, AfterValidator(valid_key)] | None = Field(
        default=None,
        validation_alias="POLYGON_FILES_ACCESS_KEY_ID",
        repr=False,
        description="The access key id of the vendor's flat files, another key than that of the API.",
    )
    files_secret_access_key: Annotated[str, AfterValidator(valid_key)] | None = Field(
        default=None,
        validation_alias="POLYGON_FILES_SECRET_ACCESS_KEY",
        repr=False,
        description="The secret of that access key; only used to sign requests.",
    )
    files_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="https://files.massive.com",
        validation_alias="POLYGON_FILES_URL",
        description="The address of the S3 server with the flat files.",
    )
    files_bucket: Annotated[str, StringConstraints(pattern=_BUCKET)] = Field(
        default="flatfiles",
        validation_alias="POLYGON_FILES_BUCKET",
        description="The bucket of the flat files.",
    )
    yahoo_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="https://query2.finance.yahoo.com",
        validation_alias="YAHOO_URL",
        description="The address of Yahoo's chart API, which is used only by markets that name it.",
    )
    yahoo_requests_per_second: float = Field(
        default=1,
        validation_alias="YAHOO_REQUESTS_PER_SECOND",
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="The rate of requests to Yahoo that all processes share.",
    )
    alpaca_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="https://data.alpaca.markets",
        validation_alias="ALPACA_URL",
        description="The address of Alpaca's market data, which is used only by markets that name it.",
    )
    alpaca_requests_per_second: float = Field(
        default=3,  # 180 of the 200 a minute that the free plan allows
        validation_alias="ALPACA_REQUESTS_PER_SECOND",
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="The rate of requests to Alpaca that all processes share.",
    )
    alpaca_key_id: Annotated[str, AfterValidator(valid_key)] | None = Field(
        default=None,
        validation_alias="APCA_API_KEY_ID",
        repr=False,
        description="Alpaca's key id; only ever sent in a header.",
    )
    alpaca_secret_key: Annotated[str, AfterValidator(valid_key)] | None = Field(
        default=None,
        validation_alias="APCA_API_SECRET_KEY",
        repr=False,
        description="The secret of that key; only ever sent in a header.",
    )
    binance_us_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="https://api.binance.us",
        validation_alias="BINANCE_US_URL",
        description="The address of Binance.US's API, which is used only by markets that name it.",
    )
    binance_us_requests_per_second: float = Field(
        default=5,
        validation_alias="BINANCE_US_REQUESTS_PER_SECOND",
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="The rate of requests to Binance.US that all processes share; lowered to what it allows.",
    )
    retry_first_pause: float = Field(
        default=120,
        validation_alias="BACKFILL_RETRY_FIRST_PAUSE",
        ge=1,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds until an empty session is requested again; each further pause is twice as long.",
    )
    retry_attempts: int = Field(
        default=5,
        validation_alias="BACKFILL_RETRY_ATTEMPTS",
        ge=2,
        le=20,  # with the default pause the last one is then 364 days long
        description="How often a session is requested in all.",
    )
    alert_urls: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_alert_urls)] = Field(
        default=(),
        validation_alias="ALERT_URLS",
        repr=False,
        description="Where alerts are sent: apprise URLs, separated by spaces, commas or line breaks.",
    )
    alert_repeat_hours: float = Field(
        default=24,
        validation_alias="ALERT_REPEAT_HOURS",
        gt=0,
        le=8760,
        allow_inf_nan=False,
        description="Hours after which an alert that is still open is sent again.",
    )
    dagster_ui_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="http://127.0.0.1:3000",  # where `backfill up` serves it
        validation_alias=AliasChoices("DAGSTER_UI_URL", "DAGIT_URL"),
        description="The address at which people reach the Dagster UI. DAGIT_URL is the older name.",
    )
    status_url: Annotated[str, AfterValidator(http_url)] = Field(
        default="http://127.0.0.1:3001",
        validation_alias="BACKFILL_STATUS_URL",
        description="The address at which people reach the status page.",
    )
    api_tokens: Annotated[tuple[ApiToken, ...], NoDecode, BeforeValidator(_api_tokens)] = Field(
        default=(),
        validation_alias="BACKFILL_API_TOKENS",
        repr=False,
        description="Tokens of the API as `name:hash:scope`, separated by spaces or commas; see `backfill token new`.",
    )
    database_url: Annotated[str, AfterValidator(postgres_url)] | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        repr=False,
        description="A PostgreSQL database of your own; the embedded server is used by default.",
    )

    export_to: str | None = Field(
        default=None,
        validation_alias="BACKFILL_EXPORT",
        description="Where the export assets write, a folder or `s3://bucket/prefix`; without it there are none.",
    )
    archive_at: str | None = Field(
        default=None,
        validation_alias="BACKFILL_ARCHIVE",
        description="Where the archives of the universe file are, a folder or `s3://bucket/prefix`; `archive` in the data "
        "folder by default.",
    )

    @property
    def archive(self) -> str:
        """The place of archives."""
        return self.archive_at or str(self.data / "archive")

    @classmethod
    def read(cls) -> Self:
        """Read this process's environment; an empty variable counts as unset. Raises SettingMistake."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingMistake(_sentence(error.errors(include_url=False)[0])) from None

    @property
    def has_flat_files(self) -> bool:
        """Whether there is an access key of flat files."""
        return self.files_access_key_id is not None

    @property
    def retries(self) -> Retries:
        """When a session is requested again."""
        return Retries(timedelta(seconds=self.retry_first_pause), self.retry_attempts)

    @property
    def alert_repeat(self) -> timedelta:
        """After how long an alert that is still open is sent again."""
        return timedelta(hours=self.alert_repeat_hours)

    def other_source(self, name: str) -> tuple[str, float]:
        """Return the address of a source behind the vendor, and its limit of requests a second."""
        return getattr(self, f"{name}_url"), getattr(self, f"{name}_requests_per_second")

    def secrets_of(self, name: str) -> dict[str, str]:
        """Return the headers with the keys of a source behind the vendor; none if it takes none, or they are not set."""
        if name != "alpaca" or not (self.alpaca_key_id and self.alpaca_secret_key):
            return {}
        return {"APCA-API-KEY-ID": self.alpaca_key_id, "APCA-API-SECRET-KEY": self.alpaca_secret_key}

    def require_project(self) -> None:
        """Raise SettingMistake unless the project's folder is one, before anything is created there."""
        for name in ("dagster.yaml", "workspace.yaml"):
            if not (self.project / name).is_file():
                raise SettingMistake(
                    f"{self.project} has no {name}: run this in the project's folder, or set DAGSTER_HOME to it."
                )

    def require_key(self) -> None:
        """Raise KeyRefused if there is no API key, before anything is requested."""
        if self.api_key is None:
            raise KeyRefused("POLYGON_API_KEY is not set: set it to the key from the vendor's dashboard.")

    def universe(self, today: date) -> Universe:
        """Read the universe file as of `today`. Raises UniverseMistake."""
        path = self.universe_file
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UniverseMistake(f"{path} does not exist; BACKFILL_UNIVERSE names the universe file.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UniverseMistake(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
        return parse_universe(text, str(path), today)


def _sentence(found: Any) -> str:
    variable = str(found["loc"][0]).replace("DAGSTER_UI_URL", "DAGSTER_UI_URL (or DAGIT_URL)")
    if found["type"] == "value_error":
        return f"{variable} {found['ctx']['error']}."
    # Only numbers are repeated: a text may be a secret.
    value = "" if found["type"].startswith("string") else f" is {found['input']!r}"
    return f"{variable}{value}: {found['msg'][0].lower()}{found['msg'][1:]}."
