"""Alembic's entry: runs the migrations on the connection that `migrations` hands over, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from farebox_ledger.store.migrations import VERSION_TABLE
from farebox_ledger.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,  # SQLite's DDL is transactional too, once the driver's implicit COMMIT is off
    )
    context.run_migrations()


run(context.config.attributes["connection"])
