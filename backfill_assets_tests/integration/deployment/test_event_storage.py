"""Contract with the installed Dagster: events that are stored in batches read as if its own storage had stored them."""

import dagster as dg
import psycopg
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.events import AssetObservationData, DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.execution.plan.handle import StepHandle
from dagster_postgres import PostgresEventLogStorage
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.storage import MarketEventLogStorage, _Grid
from backfill_assets.orchestration.launch import open_instance
from backfill_assets_tests.support import PROJECT, rows

KEY = dg.AssetKey(["stocks", "ohlcv_1d"])
RUN = "6a1c2f0e-0000-4000-8000-000000000001"
TABLES = ("event_logs", "asset_keys", "asset_event_tags")


def entry(event, message="Materialized.", at=1_700_000_000.25, step="stocks_ohlcv"):
    """Return an event of a step as Dagster passes it to its storage."""
    data = (
        StepMaterializationData(event, [])
        if isinstance(event, dg.AssetMaterialization)
        else AssetObservationData(event)
    )
    kind = "MATERIALIZATION" if isinstance(event, dg.AssetMaterialization) else "OBSERVATION"
    node = NodeHandle(step, None)
    happened = DagsterEvent(
        event_type_value=DagsterEventType[f"ASSET_{kind}"].value,
        job_name="stocks_ohlcv_job",
        step_key=step,
        step_handle=StepHandle(node),
        node_handle=node,
        step_kind_value="COMPUTE",
        event_specific_data=data,
        message=message,
    )
    return dg.EventLogEntry(None, "INFO", "", RUN, at, step, "stocks_ohlcv_job", happened)


TEXTS = st.text(max_size=8) | st.sampled_from(["%s", "%", '"\\', "\0"])
INTS = st.integers(0, 10**12).map(dg.MetadataValue.int)
INSTANTS = st.floats(0, 2**33).map(dg.TimestampMetadataValue)
METADATA = st.dictionaries(
    st.sampled_from(["bars", "%d", "first"]), INTS | INSTANTS | TEXTS.map(dg.MetadataValue.text), max_size=3
)
EVENTS = st.builds(
    entry,
    st.builds(
        lambda kind, *parts: kind(*parts),
        st.sampled_from([dg.AssetMaterialization, dg.AssetMaterialization, dg.AssetObservation]),
        st.sampled_from([KEY, KEY, dg.AssetKey("%s")]),
        st.sampled_from([None, None, "%s"]),
        st.fixed_dictionaries({"bars": INTS, "first": INSTANTS}) | METADATA,
        st.none() | TEXTS,
        st.sampled_from([None, None, {"dagster/data_version": "%s"}]),
    ),
    st.none() | TEXTS,
    st.floats(0, 2**33),
    st.sampled_from(["stocks_ohlcv", "stocks_ohlcv", "%(x)s"]),
)


@given(st.lists(EVENTS, min_size=1, max_size=12))
def test_rows_made_from_a_template_equal_dagsters(events):
    storage = MarketEventLogStorage.__new__(MarketEventLogStorage)
    assert list(storage._rows(events)) == [storage._event_to_row(event) for event in events]


PARTITIONS = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition("2024-01-02", end_date="2024-01-20", exclusions=["0 0 * * 6,0"]),
        "symbol": dg.StaticPartitionsDefinition(["AAPL", "NA"]),
    }
)
DAYS = st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-06", "2024-01-19", "2024-01-20", "today", ""])
PARTS = st.sampled_from(["|", "||", ""])
KEYS = st.tuples(DAYS, PARTS, st.sampled_from(["AAPL", "NA", "na", ""]), st.sampled_from(["", "|", "|AAPL"])).map(
    "".join
)


@given(st.sets(KEYS) | st.just({*PARTITIONS.get_partition_keys()}))
def test_partitions_that_no_longer_exist_are_not_shown(keys):
    assert _Grid.of(PARTITIONS).filter_valid_partition_keys(keys) == PARTITIONS.filter_valid_partition_keys(keys)
    assert _Grid.of(PARTITIONS).get_serializable_unique_identifier() == PARTITIONS.get_serializable_unique_identifier()


def answers(storage):
    """Return what the Dagster UI reads about an asset: partitions, history with metadata, the newest event, tags."""
    history = storage.fetch_materializations(KEY, limit=1000).records
    newest = storage.get_latest_materialization_events([KEY])[KEY]
    log = storage.get_records_for_run(RUN, limit=1000).records
    record = storage.get_asset_records([KEY])[0].asset_entry
    return (
        storage.get_materialized_partitions(KEY),
        storage.get_latest_storage_id_by_partition(KEY, DagsterEventType.ASSET_MATERIALIZATION),
        history,
        newest,
        log,
        (record.last_materialization_record, record.last_run_id),
        storage.get_event_tags_for_asset(KEY),
    )


def test_batches_are_stored_as_by_dagster_and_compressed(dagster_database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", dagster_database_url)
    monkeypatch.setenv("BACKFILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))

    def materialization(number, **tags):
        key = dg.MultiPartitionKey({"date": f"2024-01-{number % 28 + 1:02}", "symbol": f"S{number // 28}"})
        instant = dg.TimestampMetadataValue(1.7e9 + number)
        found = {"bars": 390 + number, "first_bar": instant, "last_bar": instant}
        made = dg.AssetMaterialization(KEY, metadata=found, partition=key, tags=tags)
        return entry(made, f"Materialized {key}.", 1.7e9 + number / 7)

    plain = [materialization(number) for number in range(100)]
    tagged = [materialization(number, **{"dagster/partition/symbol": "S0", "other": "x"}) for number in range(5)]
    observed = [entry(dg.AssetObservation(KEY, partition=p)) for p in ("a", "b")]
    stored, read = [], []
    with open_instance(Settings.read()) as instance, psycopg.connect(dagster_database_url, autocommit=True) as database:
        ours = instance.event_log_storage
        own = PostgresEventLogStorage(ours.postgres_url)
        for storage in (own, ours):
            database.execute(f"truncate {','.join(f'dagster.{name}' for name in TABLES)} restart identity")
            for batch in (plain, tagged, observed, [*tagged, *plain[:5]]):
                storage.store_event_batch(batch)
            found = {name: rows(dagster_database_url, f"table dagster.{name} order by id") for name in TABLES}
            found["event_logs"] = [(*one[:2], one[2].rstrip(" "), *one[3:]) for one in found["event_logs"]]
            found["asset_keys"] = [(*one[:8], *one[9:]) for one in found["asset_keys"]]  # without create_timestamp
            stored.append(found)
            read.append(answers(storage))
    assert stored[1] == stored[0]
    assert read[1] == read[0]
    assert len(stored[0]["event_logs"]) == 117
    assert len(stored[0]["asset_event_tags"]) == 10
    ((largest,),) = rows(
        dagster_database_url,
        "select max(pg_column_size(event)) from dagster.event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'",
    )
    assert largest < 800
