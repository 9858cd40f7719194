import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from backfill_assets.adapters import settings
from backfill_assets.adapters.postgres import sqlalchemy_url, without_password
from backfill_assets.domain.api_tokens import Scope
from backfill_assets.domain.errors import SettingMistake, UniverseMistake
from backfill_assets.domain.retries import Retries
from backfill_assets_tests.support import read_settings

SECRET = "S3cr3tW0rd"  # noqa: S105  # not a real one
PACKAGE = Path(settings.__file__).resolve().parents[1]
VARIABLES = [
    *("DAGSTER_HOME", "BACKFILL_DATA_DIR", "BACKFILL_UNIVERSE"),
    *("POLYGON_API_KEY", "POLYGON_BASE_URL", "POLYGON_REQUESTS_PER_SECOND"),
    *("POLYGON_FILES_ACCESS_KEY_ID", "POLYGON_FILES_SECRET_ACCESS_KEY", "POLYGON_FILES_URL", "POLYGON_FILES_BUCKET"),
    *("BACKFILL_RETRY_FIRST_PAUSE", "BACKFILL_RETRY_ATTEMPTS"),
    *("ALERT_URLS", "ALERT_REPEAT_HOURS", "DAGSTER_UI_URL", "DAGIT_URL", "DATABASE_URL"),
]


@pytest.fixture
def home(tmp_path):
    return {"DAGSTER_HOME": str(tmp_path)}


def mistake(environ):
    with pytest.raises(SettingMistake) as caught:
        read_settings(environ)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_defaults(home, tmp_path):
    assert read_settings(home).model_dump() == {
        "project": tmp_path,
        "data": tmp_path / ".backfill",
        "universe_file": PACKAGE / "universe.yaml",
        "api_key": None,
        "base_url": "https://api.polygon.io",
        "requests_per_second": 2.5,
        "files_access_key_id": None,
        "files_secret_access_key": None,
        "files_url": "https://files.massive.com",
        "files_bucket": "flatfiles",
        "yahoo_url": "https://query2.finance.yahoo.com",
        "yahoo_requests_per_second": 1,
        "alpaca_url": "https://data.alpaca.markets",
        "alpaca_requests_per_second": 3,
        "alpaca_key_id": None,
        "alpaca_secret_key": None,
        "binance_us_url": "https://api.binance.us",
        "binance_us_requests_per_second": 5,
        "retry_first_pause": 120,
        "retry_attempts": 5,
        "alert_urls": (),
        "alert_repeat_hours": 24,
        "dagster_ui_url": "http://127.0.0.1:3000",
        "database_url": None,
        "status_url": "http://127.0.0.1:3001",
        "api_tokens": (),
        "export_to": None,
        "archive_at": None,
    }
    assert read_settings(home).retries == Retries()


def test_an_empty_variable_counts_as_unset(home):
    assert read_settings(dict.fromkeys(VARIABLES, "") | home) == read_settings(home)


def test_every_variable_is_read(tmp_path):
    read = read_settings(
        {
            "DAGSTER_HOME": str(tmp_path / "home"),
            "BACKFILL_DATA_DIR": str(tmp_path / "data"),
            "BACKFILL_UNIVERSE": str(tmp_path / "mine.yaml"),
            "POLYGON_API_KEY": "abc_DEF-123",
            "POLYGON_BASE_URL": "http://127.0.0.1:8300/",
            "POLYGON_REQUESTS_PER_SECOND": "0.0833",
            "POLYGON_FILES_ACCESS_KEY_ID": "key-id",
            "POLYGON_FILES_SECRET_ACCESS_KEY": f" {SECRET} ",
            "POLYGON_FILES_URL": "http://127.0.0.1:8300/",
            "POLYGON_FILES_BUCKET": "a-mirror",
            "YAHOO_URL": "http://127.0.0.1:8301/",
            "YAHOO_REQUESTS_PER_SECOND": "0.5",
            "ALPACA_URL": "http://127.0.0.1:8303/",
            "ALPACA_REQUESTS_PER_SECOND": "1.5",
            "APCA_API_KEY_ID": "alpaca-id",
            "APCA_API_SECRET_KEY": SECRET,
            "BINANCE_US_URL": "http://127.0.0.1:8302/",
            "BINANCE_US_REQUESTS_PER_SECOND": "2",
            "BACKFILL_RETRY_FIRST_PAUSE": "1.5",
            "BACKFILL_RETRY_ATTEMPTS": "7",
            "ALERT_URLS": "json://127.0.0.1:1/, mailto://me:secret@example.org",
            "ALERT_REPEAT_HOURS": "0.5",
            "BACKFILL_EXPORT": "s3://bucket/bars",
            "BACKFILL_ARCHIVE": "s3://bucket/archive",
            "BACKFILL_STATUS_URL": "https://status.example.org/",
            "BACKFILL_API_TOKENS": f"monitor:{'0a' * 32}:read,\nscript:{'1b' * 32}:launch",
            "DAGSTER_UI_URL": "https://market.example.org/",
            "DATABASE_URL": "postgresql://u:p@db.example:5432/market?sslmode=require",
            "PATH": "/bin",
        }
    )
    assert read.model_dump() == {
        "project": tmp_path / "home",
        "data": tmp_path / "data",
        "universe_file": tmp_path / "mine.yaml",
        "api_key": "abc_DEF-123",
        "base_url": "http://127.0.0.1:8300",
        "requests_per_second": 0.0833,
        "files_access_key_id": "key-id",
        "files_secret_access_key": SECRET,
        "files_url": "http://127.0.0.1:8300",
        "files_bucket": "a-mirror",
        "yahoo_url": "http://127.0.0.1:8301",
        "yahoo_requests_per_second": 0.5,
        "alpaca_url": "http://127.0.0.1:8303",
        "alpaca_requests_per_second": 1.5,
        "alpaca_key_id": "alpaca-id",
        "alpaca_secret_key": SECRET,
        "binance_us_url": "http://127.0.0.1:8302",
        "binance_us_requests_per_second": 2,
        "retry_first_pause": 1.5,
        "retry_attempts": 7,
        "alert_urls": ("json://127.0.0.1:1/", "mailto://me:secret@example.org"),
        "alert_repeat_hours": 0.5,
        "dagster_ui_url": "https://market.example.org",
        "status_url": "https://status.example.org",
        "api_tokens": (
            {"name": "monitor", "digest": "0a" * 32, "scope": Scope.READ},
            {"name": "script", "digest": "1b" * 32, "scope": Scope.LAUNCH},
        ),
        "database_url": "postgresql://u:p@db.example:5432/market?sslmode=require",
        "export_to": "s3://bucket/bars",
        "archive_at": "s3://bucket/archive",
    }
    assert read.retries == Retries(timedelta(seconds=1.5), 7)
    assert read.alert_repeat == timedelta(minutes=30)


def test_settings_are_frozen(home):
    with pytest.raises(ValidationError, match="frozen"):
        read_settings(home).base_url = "https://elsewhere.example"


# --- Secrets


def test_the_repr_has_no_secret(home):
    url = f"postgresql://u:{SECRET}@h/d"
    read = read_settings(
        home | {"POLYGON_API_KEY": SECRET, "POLYGON_FILES_SECRET_ACCESS_KEY": SECRET, "DATABASE_URL": url}
    )
    assert (read.api_key, read.database_url) == (SECRET, url)
    assert SECRET not in repr(read)
    assert SECRET not in str(read)
    assert SECRET not in f"{read}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLYGON_API_KEY", f"{SECRET} x"),
        ("POLYGON_FILES_SECRET_ACCESS_KEY", f"{SECRET} x"),
        ("POLYGON_FILES_URL", f"https://me:{SECRET}@h"),
        ("POLYGON_API_KEY", f"{SECRET}\nx"),
        ("POLYGON_API_KEY", f"{SECRET}é"),
        ("POLYGON_API_KEY", f"{SECRET}\x00"),
        ("POLYGON_API_KEY", f"{SECRET}\u200b"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h/"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:x/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:99999/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@[h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:1,x:y/d"),
        ("DATABASE_URL", f"postgresql+mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"host=h password={SECRET}"),
        *(("DATABASE_URL", f"postgresql://u:{SECRET}{bad}x@h/d") for bad in ("%", "%g1", "/", "@", "#", "?")),
        ("DATABASE_URL", " "),
        ("POLYGON_BASE_URL", f"https://u:{SECRET}@h"),
        ("POLYGON_BASE_URL", f"https://{SECRET}@h"),
        ("POLYGON_BASE_URL", f"https://:{SECRET}@h"),
        ("POLYGON_BASE_URL", f"https://h?apiKey={SECRET}"),
        ("POLYGON_BASE_URL", f"https://h/v2#{SECRET}"),
        ("POLYGON_BASE_URL", f"ftp://u:{SECRET}@h"),
        ("POLYGON_BASE_URL", f"https://u:{SECRET}@h:99999"),
        ("POLYGON_BASE_URL", f"https://h:x?apiKey={SECRET}"),
        ("POLYGON_BASE_URL", f"https://[u:{SECRET}@h"),
        ("POLYGON_BASE_URL", f"u:{SECRET}@h"),
    ],
)
def test_an_invalid_value_that_may_be_secret_is_not_repeated(home, name, value):
    sentence = mistake(home | {name: value})
    assert name in sentence
    assert SECRET not in sentence


@pytest.mark.parametrize("value", [" abc123", "abc123\n", "\tabc123 ", " \n"])
def test_whitespace_around_a_key_is_stripped(home, value):
    assert read_settings(home | {"POLYGON_API_KEY": value}).api_key == (value.strip() or None)


# --- Addresses


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("https://api.massive.com", "https://api.massive.com"),
        ("https://api.massive.com/", "https://api.massive.com"),
        ("http://localhost:8300", "http://localhost:8300"),
        ("http://[::1]:8300", "http://[::1]:8300"),
        ("https://proxy.example/polygon/", "https://proxy.example/polygon"),
    ],
)
def test_a_base_url_loses_its_last_slash(home, value, taken):
    assert read_settings(home | {"POLYGON_BASE_URL": value}).base_url == taken


@pytest.mark.parametrize(
    "value",
    [
        *("api.polygon.io", "ftp://h", "https://", "https:///v2", "http://h:x", "http://h:99999", "/v2", "http://[h"),
        *("https://a b", "https://h\n", "https://api\n.example", "https://h\0", " https://h"),
    ],
)
def test_an_invalid_base_url_is_rejected(home, value):
    assert mistake(home | {"POLYGON_BASE_URL": value}).startswith("POLYGON_BASE_URL ")


@pytest.mark.parametrize(
    "value", ["postgres://h/d", "postgresql://h/d", "postgresql:///d", "postgresql://u@h:5433/d?a=b"]
)
def test_a_database_url_is_kept_unchanged(home, value):
    assert read_settings(home | {"DATABASE_URL": value}).database_url == value


def test_several_hosts_become_parameters_that_every_driver_knows(home):
    url = "postgresql://u:p%40w@a.example:5433,10.0.0.2/d?target_session_attrs=read-write"
    read = read_settings(home | {"DATABASE_URL": url}).database_url
    assert read == "postgresql://u:p%40w@/d?host=a.example,10.0.0.2&port=5433,&target_session_attrs=read-write"
    assert conninfo_to_dict(read) == conninfo_to_dict(url)
    _, arguments = PGDialect_psycopg2().create_connect_args(sqlalchemy_url(read))
    assert {name: conninfo_to_dict(url)[name] for name in ("host", "port")} == {
        n: arguments[n] for n in ("host", "port")
    }
    assert (arguments["user"], arguments["password"]) == ("u", "p@w")
    assert without_password(read) == "a.example:5433,10.0.0.2:5432/d"
    assert read_settings(home | {"DATABASE_URL": read}).database_url == read


# --- The rate


@pytest.mark.parametrize(("value", "rate"), [("1", 1.0), ("0.0833", 0.0833), ("1000", 1000.0), ("1e2", 100.0)])
def test_a_rate_is_a_number_of_requests_per_second(home, value, rate):
    assert read_settings(home | {"POLYGON_REQUESTS_PER_SECOND": value}).requests_per_second == rate


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "POLYGON_REQUESTS_PER_SECOND",
            ["0", "-1", "-0.0", "1000.1", "nan", "inf", "-inf", "fast", "2,5", "5/min", " "],
        ),
        ("BACKFILL_RETRY_FIRST_PAUSE", ["0", "0.5", "-1", "86401", "nan", "inf", "two", "1e9"]),
        ("BACKFILL_RETRY_ATTEMPTS", ["0", "1", "21", "-2", "2.5", "many", "99999", "٣"]),
    ],
)
def test_an_invalid_number_is_rejected(home, name, values):
    for value in values:
        assert re.match(
            rf"{name} is {re.escape(repr(value))}: (input should be|unable to parse) ", mistake(home | {name: value})
        )


# --- Folders and files


@pytest.mark.parametrize("name", ["DAGSTER_HOME", "BACKFILL_DATA_DIR", "BACKFILL_UNIVERSE"])
@pytest.mark.parametrize("path", ["a\0b", "~no-such-user-here/x"])
def test_a_path_with_a_nul_or_of_an_unknown_user_is_rejected(home, name, path):
    assert mistake(home | {name: path}).startswith(f"{name} ")


def test_a_tilde_is_the_users_home(tmp_path):
    me = tmp_path / "me"
    paths = {"DAGSTER_HOME": "~/p", "BACKFILL_DATA_DIR": "~/d", "BACKFILL_UNIVERSE": "~/u.yaml"}
    read = read_settings({"HOME": str(me)} | paths)
    assert (read.project, read.data, read.universe_file) == (me / "p", me / "d", me / "u.yaml")


def test_relative_paths_are_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = read_settings({"DAGSTER_HOME": "p", "BACKFILL_DATA_DIR": "../d", "BACKFILL_UNIVERSE": "./u.yaml"})
    assert read.project == tmp_path / "p"
    assert read.data == tmp_path.parent / "d"
    assert read.universe_file == tmp_path / "u.yaml"


def make_project(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("inside", [".", "a", "a/b/c"])
def test_the_innermost_project_is_found_from_folders_inside_it_unless_dagster_home_names_another(
    tmp_path, monkeypatch, inside
):
    project = make_project(make_project(tmp_path) / "project")
    (project / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(project / inside)
    read = read_settings({})
    assert (read.project, read.data) == (project, project / ".backfill")
    assert read_settings({"DAGSTER_HOME": str(tmp_path / "there")}).project == tmp_path / "there"


def test_a_folder_with_only_one_of_the_files_is_not_a_project(tmp_path, monkeypatch):
    make_project(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "dagster.yaml").touch()
    monkeypatch.chdir(tmp_path / "inner")
    assert read_settings({}).project == tmp_path


def test_outside_any_project_the_packages_own_folder_is_used(tmp_path, monkeypatch):
    package = make_project(tmp_path / "source") / "backfill_assets"
    monkeypatch.setattr(settings, "_PACKAGE", package)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_settings({}).project == tmp_path / "source"


def test_without_any_project_the_working_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_PACKAGE", tmp_path / "installed" / "backfill_assets")
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).project == tmp_path


# --- The universe that the settings name

TODAY = date(2025, 6, 2)


def test_the_default_universe_is_the_packaged_one(home):
    assert [m.name for m in read_settings(home).universe(TODAY).markets] == ["stocks", "crypto"]


def test_a_universe_of_your_own_is_read(home, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("markets: {stocks: {start: 2024-01-02, symbols: [GME]}}", encoding="utf-8")
    universe = read_settings(home | {"BACKFILL_UNIVERSE": str(file)}).universe(TODAY)
    assert universe.market("stocks").symbol("GME").ticker == "GME"


def test_a_mistake_in_the_universe_names_file_and_line(home, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("markets:\n  stocks:\n    start: never\n    symbols: [A]\n", encoding="utf-8")
    with pytest.raises(UniverseMistake, match=re.escape(f"{file}, line 3: markets.stocks.start must be a date")):
        read_settings(home | {"BACKFILL_UNIVERSE": str(file)}).universe(TODAY)


def test_a_missing_universe_names_the_variable(home, tmp_path):
    file = tmp_path / "mine.yaml"
    with pytest.raises(UniverseMistake, match=re.escape(f"{file} does not exist; BACKFILL_UNIVERSE")):
        read_settings(home | {"BACKFILL_UNIVERSE": str(file)}).universe(TODAY)


def test_a_universe_that_is_a_folder_or_not_text_cannot_be_read(home, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"markets: \xff\xfe")
    for path in (tmp_path, file):
        with pytest.raises(UniverseMistake, match=re.escape(f"{path} cannot be read (")):
            read_settings(home | {"BACKFILL_UNIVERSE": str(path)}).universe(TODAY)
