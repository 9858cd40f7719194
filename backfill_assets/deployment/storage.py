"""The storage classes that dagster.yaml names: where Dagster keeps its records and files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import contains
from pathlib import Path
from typing import Any, Self

import dagster as dg
import psycopg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import StepMaterializationData
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.loader import LoadingContext
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._core.storage.partition_status_cache import AssetStatusCacheValue
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from psycopg.sql import Identifier
from sqlalchemy import Insert, cast, func, insert, select
from sqlalchemy.dialects.postgresql import ARRAY

from backfill_assets.adapters import database
from backfill_assets.adapters.postgres import POOLER, SILENCE, Row, connected, sqlalchemy_url
from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.private_api import pool_connections, records_needed
from backfill_assets.domain.errors import DatabaseUnavailable, SettingMistake

SCHEMA = "dagster"
"""The schema of Dagster's 22 tables; the market tables are in the database's default schema."""

# Any constant that no other program uses: the bytes of "dgst".
_CREATION_LOCK = 0x64677374

_LOCK_CREATION = """
select set_config('lock_timeout', '60s', true), set_config('idle_in_transaction_session_timeout', '0', true)"""
"""Settings of the transaction that holds the lock and waits for Dagster."""

COMPRESSED = 2000
"""Length of an event from which PostgreSQL compresses it; the limit is 2,032 bytes for the row."""

# Stands for a value in a template. No event contains it: PostgreSQL's text has no such character.
_VALUE = "\0"

PLANNED_SUBSETS = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"


class _Grid(dg.MultiPartitionsDefinition):
    """Partitions in several dimensions, which finds its keys among others without making an object of each.

    Dagster does that for all materialized partitions when an asset's page is opened and there is a new day: 2 s for 100
    symbols x 5 years.
    """

    @classmethod
    def of(cls, partitions: dg.PartitionsDefinition | None) -> dg.PartitionsDefinition | None:
        """Return equal partitions of this class, or the partitions if they have one dimension."""
        if not isinstance(partitions, dg.MultiPartitionsDefinition):
            return partitions
        return cls({dimension.name: dimension.partitions_def for dimension in partitions.partitions_defs})

    def filter_valid_partition_keys(self, partition_keys: set[str]) -> set[Any]:
        """Return those that exist, as strings."""
        count = len(self.partitions_defs)
        split = {key: parts for key in partition_keys if len(parts := key.split("|")) == count}
        columns = zip(self.partitions_defs, zip(*split.values(), strict=True), strict=False)
        valid = [dimension.partitions_def.filter_valid_partition_keys({*keys}) for dimension, keys in columns]
        return {key for key, parts in split.items() if all(map(contains, valid, parts))}


class MarketEventLogStorage(PostgresEventLogStorage):
    """Dagster's event log, with one planned event for each asset of a run instead of one for each partition."""

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """Return True unless the environment variable is set; Dagster's default is False.

        Recording a run over 775 partitions takes 0.9 s with it, 9 s without. The partitions of a failed run are then
        shown as missing instead of failed.
        """
        return (
            PLANNED_SUBSETS not in os.environ
            or super().supports_partition_subset_in_asset_materialization_planned_events
        )

    def get_asset_status_cache_values(
        self,
        partitions_defs_by_key: Iterable[tuple[dg.AssetKey, dg.PartitionsDefinition | None]],
        context: LoadingContext,
    ) -> Sequence[AssetStatusCacheValue | None]:
        """Return which partitions of assets are materialized, for their pages in the UI."""
        fast = [(key, _Grid.of(partitions)) for key, partitions in partitions_defs_by_key]
        return super().get_asset_status_cache_values(fast, context)

    @records_needed()
    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event. Dagster prints the error of a failure: one sentence, without the statement."""
        super().store_event(event)

    @records_needed()
    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events; see `store_event`."""
        super().store_event_batch(events)

    def prepare_insert_event_batch(self, events: Sequence[dg.EventLogEntry]) -> Insert:
        """Return the statement that inserts events, in their order, with one array for each column.

        Dagster's has a parameter for each value, and SQLAlchemy compiles it again for each batch: 0.1 ms for each event.
        Spaces after the JSON make a row long enough for PostgreSQL to compress it, from 2 kB to 0.9.
        """
        rows = [row | {"event": row["event"].ljust(COMPRESSED)} for row in self._rows(events)]
        columns = [column for column in SqlEventLogStorageTable.columns if column.name in rows[0]]
        arrays = [cast([row[c.name] for row in rows], ARRAY(c.type)) for c in columns]
        values = func.unnest(*arrays).table_valued(*(c.name for c in columns)).render_derived()
        return insert(SqlEventLogStorageTable).from_select([c.name for c in columns], select(*values.c))

    def _rows(self, events: Sequence[dg.EventLogEntry]) -> Iterator[dict[str, Any]]:
        """Return the rows of events, equal to Dagster's.

        Events of a batch differ in a few values only: the JSON of the first is the template of the others.
        """
        row, template, constant = dict[str, Any](), "", None
        for event in events:
            found, values = _parts(event)
            if found is None or found != constant:
                row = self._event_to_row(event)
                template = _template(row["event"]) if found else ""
                constant = found if found and template % values == row["event"] else None
                yield row
            else:
                partition = event.get_dagster_event().partition or None
                timestamp = self._event_insert_timestamp(event)  # type: ignore[no-untyped-call]  # untyped in Dagster
                yield row | {"event": template % values, "partition": partition, "timestamp": timestamp}


def _parts(event: dg.EventLogEntry) -> tuple[tuple[object, ...] | None, tuple[str, ...]]:
    """Return what materializations of a batch have in common, and the JSON of the values that differ, in their order.

    Nothing in common if the event is not a materialization with numbers and instants as metadata.
    """
    happened = event.get_dagster_event()
    data = happened.event_specific_data
    if not isinstance(data, StepMaterializationData):
        return None, ()
    made = data.materialization
    kinds = [type(value) for value in made.metadata.values()]
    if not {*kinds} <= {dg.IntMetadataValue, dg.TimestampMetadataValue}:
        return None, ()
    values = (*(value.value for value in made.metadata.values()), made.partition, happened.message, event.timestamp)
    constant = (
        event._replace(timestamp=0.0, dagster_event=None),
        happened._replace(message=None, event_specific_data=None),
        data._replace(materialization=None),  # type: ignore[arg-type]
        made._replace(partition=None, metadata={}),
        [*made.metadata],
        kinds,
    )
    return constant, tuple(map(json.dumps, values))


def _template(text: str) -> str:
    """Return the JSON of a materialization with %s in the place of each value that `_parts` returns."""
    event = json.loads(text)
    made = event["dagster_event"]["event_specific_data"]["materialization"]
    for entry in made["metadata_entries"]:
        entry["entry_data"]["value"] = _VALUE
    made["partition"] = event["dagster_event"]["message"] = event["timestamp"] = _VALUE
    return json.dumps(event).replace("%", "%%").replace(json.dumps(_VALUE), "%s")


class MarketPostgresStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage in DATABASE_URL or, if that is not set, in the embedded server, which is started."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return no options: DATABASE_URL names the database."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """Open the storage, creating its schema and tables if they are missing."""
        storage = cls(_prepared(database.locate(Settings.read())), should_autocreate_tables=False, inst_data=inst_data)
        storage._event_log_storage = MarketEventLogStorage(storage.postgres_url, should_autocreate_tables=False)
        pool_connections(storage)
        return storage


class DataFolderComputeLogs(LocalComputeLogManager):
    """The output of steps, in the data folder.

    mirrored   whether it also goes to the process's own standard output and error, as in Dagster; commands turn it off
    """

    mirrored = True

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return no options: BACKFILL_DATA_DIR names the data folder."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """Create the manager."""
        return cls(base_dir=str(_folder() / "compute_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Write what this process prints in the context to the files of `log_key`.

        To mirror it, Dagster starts four programs in the terminal's process group: Ctrl-C ends them before this process,
        and their tracebacks hide its last message.
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
        done: str = self.complete_artifact_path(log_key)  # type: ignore[no-untyped-call]  # untyped in Dagster
        Path(done).touch()  # readers stop waiting for more


class DataFolderArtifacts(LocalArtifactStorage):
    """Dagster's other files, in the data folder."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return no options: BACKFILL_DATA_DIR names the data folder."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003  # Dagster's signature
        """Create the storage."""
        return cls(base_dir=str(_folder()), inst_data=inst_data)


def _folder() -> Path:
    folder = Settings.read().data / "dagster"
    try:
        make_private_folder(folder)
    except OSError:  # reported when something is written there; not every process that opens the instance does
        pass
    except SettingMistake:  # the same, unless it would be written to another user's folder
        if os.access(folder, os.W_OK):
            raise
    return folder


@lru_cache(maxsize=1)
def _prepared(url: str) -> str:
    """Create Dagster's schema and tables if they are missing, once in a process; return Dagster's URL of the database."""
    with connected(url) as connection:
        _create_schema(connection)
    dagster_url = _dagster_url(url)
    _require_schema(dagster_url)
    with connected(url) as connection, connection.transaction():
        # Dagster creates its tables when it opens them, and fails where two processes do so at once.
        connection.execute(_LOCK_CREATION)
        connection.execute("select pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
        DagsterPostgresStorage(dagster_url)
    return dagster_url


def _dagster_url(url: str) -> str:
    with_driver = sqlalchemy_url(url, driver="psycopg2")
    options = f"{with_driver.query.get('options', '')} -csearch_path={SCHEMA}".strip()
    query = {name: str(value) for name, value in SILENCE.items()} | with_driver.query | {"options": options}
    return with_driver.set(query=query).render_as_string(hide_password=False)


def _create_schema(connection: psycopg.Connection[Row]) -> None:
    # Looked up first: "if not exists" needs the right to create a schema even if it exists.
    found = connection.execute("select to_regnamespace(%s) is not null", [SCHEMA]).fetchone()
    if found and found[0]:
        return
    try:
        connection.execute(f"create schema {SCHEMA}")
    except psycopg.errors.InsufficientPrivilege:
        names = connection.info.dbname, connection.info.user
        database_name, role = (Identifier(name).as_string() for name in names)
        raise DatabaseUnavailable(
            f"The role of DATABASE_URL may not create the schema {SCHEMA}: as the owner of the database, run "
            f"`GRANT CREATE ON DATABASE {database_name} TO {role}`."
        ) from None


def _require_schema(dagster_url: str) -> None:
    """Raise DatabaseUnavailable if a connection pooler drops the setting of the schema."""
    rendered = sqlalchemy_url(dagster_url).set(drivername="postgresql").render_as_string(hide_password=False)
    address, _, query = rendered.rpartition("?")
    # libpq reads no plus as a space, and no spaces, which SQLAlchemy leaves in a user's name and password.
    with connected(f"{address.replace(' ', '%20')}?{query.replace('+', '%20')}") as connection:
        found = connection.execute("select current_schema()").fetchone()
        usable = connection.execute("select has_schema_privilege(%s, 'usage')", [SCHEMA]).fetchone()
    if usable == (False,):
        raise DatabaseUnavailable(
            f"The role of DATABASE_URL may not use the schema {SCHEMA}: grant the right, see docs/howto/own-postgresql.md."
        )
    if found != (SCHEMA,):
        raise DatabaseUnavailable(f"{POOLER}.")
