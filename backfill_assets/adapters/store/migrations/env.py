"""Run migrations on the connection of `schema.upgrade`; imported by Alembic."""

from alembic import context

from backfill_assets.adapters.store.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
