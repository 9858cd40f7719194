"""Asset keys of two parts: `stocks/ohlcv/1m` becomes `stocks/ohlcv_1m`, in Dagster's tables and in the alerts.

Dagster stores the keys in columns and inside serialized events, as `["stocks", "ohlcv", "1m"]`, the same escaped,
`stocks/ohlcv/1m` and `stocks__ohlcv__1m`. Job snapshots are compressed and named by their content: those of old runs keep the
old keys.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

_SEPARATOR = r'(\\*", \\*"|/|__)'
_TIMEFRAME = r"(1m|5m|15m|30m|1h|4h|1d|1w)(?![0-9A-Za-z])"
_OLD = rf"{_SEPARATOR}(ohlcv|features){_SEPARATOR}{_TIMEFRAME}"
_NEW = rf"{_SEPARATOR}(ohlcv|features)_{_TIMEFRAME}"

# Rows of one asset, which are nearly all. Regular expressions would take ten times as long.
_BY_ASSET = {
    "dagster.event_logs": "event",
    "dagster.asset_check_executions": "evaluation_event",
    "dagster.asset_keys": "last_materialization",
    "dagster.asset_event_tags": "key",
    "dagster.asset_daemon_asset_evaluations": "asset_evaluation_body",
}
_OTHERS = [
    ("dagster.event_logs", "event", "asset_key is null or asset_key not in (select new from renamed_keys)"),
    ("dagster.asset_keys", "last_materialization", "true"),
    ("dagster.asset_event_tags", "key", "true"),
    ("dagster.runs", "run_body", "true"),
    ("dagster.bulk_actions", "body", "true"),
]
_OURS = [
    ("alerts", "incident"),
    ("alerts", "sentence"),
    ("alerts", "details"),
    ("alerts", "place"),
    ("alert_deliveries", "title"),
    ("alert_deliveries", "body"),
]
_JSON = {"details", "place"}


def upgrade() -> None:
    """Rename the keys."""
    _rename(_OLD, r"\1\2_\4")


def downgrade() -> None:
    """Restore the former keys."""
    _rename(_NEW, r"\1\2\1\3")


def _rename(pattern: str, replacement: str) -> None:
    def renamed(column: str) -> str:
        text = f"regexp_replace({column}::text, '{pattern}', '{replacement}', 'g')"
        return f"{text}::jsonb" if column in _JSON else text

    def update(table: str, column: str, condition: str = "true") -> None:
        where = f"({condition}) and {column}::text ~ '{pattern}'"
        op.execute(f"update {table} set {column} = {renamed(column)} where {where}")  # noqa: S608  # constants

    for table, column in _OURS:
        update(table, column)
    if not op.get_bind().exec_driver_sql("select to_regclass('dagster.asset_keys') is not null").scalar():
        return
    op.execute(f"""
        create temporary table renamed_keys on commit drop as
        select asset_key as old, {renamed("asset_key")} as new,
          array_to_string(array(select jsonb_array_elements_text(asset_key::jsonb)), '/') as old_name,
          array_to_string(array(select jsonb_array_elements_text({renamed("asset_key")}::jsonb)), '/') as new_name
        from (select asset_key from dagster.asset_keys union select asset_key from dagster.asset_check_executions) k
        where asset_key ~ '{pattern}'""")  # noqa: S608  # constants
    # The new program may have planned a run before this migration: its row gives way to the one with the history.
    op.execute("""
        delete from dagster.asset_keys k using renamed_keys r
        where k.asset_key = r.new and exists (select from dagster.asset_keys o where o.asset_key = r.old)""")
    for table, column in _BY_ASSET.items():
        op.execute(f"""
            update {table} t set asset_key = new,
              {column} = replace(replace(t.{column}, old, new), old_name, new_name)
            from renamed_keys where t.asset_key = old""")  # noqa: S608  # constants
    for table, column, condition in _OTHERS:
        update(table, column, condition)
