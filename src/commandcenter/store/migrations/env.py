"""Runs our migrations on the connection that `store.database.migrate` opened."""

from __future__ import annotations

from alembic import context

from commandcenter.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="cc_migrations",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
