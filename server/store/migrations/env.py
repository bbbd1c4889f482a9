"""Runs migrations on the connection that `server.store.migrate` hands over, in its transaction."""

from alembic import context

from server.store.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
