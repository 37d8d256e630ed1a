"""Room stores: how Alembic runs our migrations, on the connection `keydesk.stores.migration` hands in."""

from alembic import context

from keydesk.stores.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
