"""What dagster.yaml names: where Dagster keeps its own records."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from backfill_assets.adapters import database
from backfill_assets.adapters.postgres import Row, connected, sqlalchemy_url
from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.private_api import pool_connections

SCHEMA = "dagster"
"""Dagster's 22 tables stand here; the market tables stand in the database's default schema."""

# Any constant serves, as long as no other program takes it: the bytes of "dgst".
_CREATION_LOCK = 0x64677374

EVENT_SETTINGS = {
    # Without these two, 775 materializations take 30 s instead of 0.9 s. Dagster takes them from the environment only.
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
}


COMPILED = "NUMBA_CACHE_DIR"


class MarketPostgresStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage: in DATABASE_URL where it is set, else in the embedded server, which is started."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing to configure: the environment says which database."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """The storage, with its schema made and its connections pooled."""
        for name, value in EVENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        settings = Settings.read()
        url = database.locate(settings)
        keep_compiled(settings.data)
        with connected(url) as connection:
            # Dagster makes its tables as it opens them, and processes that do so at once stumble over each other.
            connection.execute("select pg_advisory_lock(%s)", [_CREATION_LOCK])
            _make_schema(connection)
            storage = cls(postgres_url=_dagster_url(url), inst_data=inst_data)
        pool_connections(storage)
        return storage


class DataFolderComputeLogs(LocalComputeLogManager):
    """What steps print, in the data folder.

    mirrored   whether what is printed also goes where it would have gone; True, as Dagster has it, unless a command says no
    """

    mirrored = True

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing to configure: the environment says where the data folder is."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """The manager over the data folder."""
        return cls(base_dir=str(_folder() / "compute_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Keep what this process prints meanwhile under `log_key`.

        To mirror it, Dagster starts four programs. They are of the terminal's process group: Ctrl-C ends them before this
        process, with tracebacks over its last words.
        """
        if self.mirrored:
            with super().capture_logs(log_key) as captured:
                yield captured
            return
        files = [Path(self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])) for kind in ComputeIOType]
        _folder()
        files[0].parent.mkdir(parents=True, exist_ok=True)
        with redirect_to_file(sys.stdout, files[0]), redirect_to_file(sys.stderr, files[1]):
            yield CapturedLogContext(log_key)
        done: str = self.complete_artifact_path(log_key)  # type: ignore[no-untyped-call]  # Dagster's own gap
        Path(done).touch()  # tells readers that nothing more follows


class DataFolderArtifacts(LocalArtifactStorage):
    """Dagster's other files, in the data folder."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing to configure: the environment says where the data folder is."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """The storage over the data folder."""
        return cls(base_dir=str(_folder()), inst_data=inst_data)


def keep_compiled(data: Path) -> None:
    """Have numba keep the kernels that it compiles in the data folder, where nobody said where and it can be written.

    Every process that computes features opens the instance before it imports numba, which reads the variable only then.
    Otherwise an installation that cannot be written to would compile them in each process anew, for four seconds.
    """
    if os.environ.get(COMPILED):
        return
    folder = data / "numba"
    try:
        make_private_folder(folder)  # what others could change in it, we would execute
    except OSError:
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ[COMPILED] = str(folder)


def _folder() -> Path:
    folder = Settings.read().data / "dagster"
    with suppress(OSError):  # told by what writes there; not everybody who opens the instance does
        make_private_folder(folder)
    return folder


def _dagster_url(url: str) -> str:
    with_driver = sqlalchemy_url(url, driver="psycopg2")
    options = f"{with_driver.query.get('options', '')} -csearch_path={SCHEMA}".strip()
    return with_driver.update_query_dict({"options": options}).render_as_string(hide_password=False)


def _make_schema(connection: psycopg.Connection[Row]) -> None:
    # Asked first: "if not exists" needs the right to create one even where it is there.
    there = connection.execute("select to_regnamespace(%s) is not null", [SCHEMA]).fetchone()
    if not (there and there[0]):
        connection.execute(f"create schema {SCHEMA}")
