"""Runs our migrations on the connection that `store.database.migrate` opened."""

from __future__ import annotations

from alembic import context

from commandcenter.store.database import VERSION_TABLE
from commandcenter.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
