"""The index by which one call told in two traces is found."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME: Final = "ix_usage_rows_response"
FIRST_OF_TRACE: Final = "parent_span_id IS NULL AND response_id IS NOT NULL"
# As in 0001: SQLite plans by statistics, and has none of an empty table.
STATISTICS: Final = "200000 2000 2 1"


def upgrade() -> None:
    op.create_index(
        NAME,
        "usage_rows",
        ["org_id", "response_id", "occurred_at_us"],
        unique=False,
        sqlite_where=sa.text(FIRST_OF_TRACE),
        postgresql_where=sa.text(FIRST_OF_TRACE),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('usage_rows', '{NAME}', '{STATISTICS}')")
        op.execute("ANALYZE sqlite_schema")  # lets this connection read them, as others do when they open


def downgrade() -> None:
    op.drop_index(NAME, table_name="usage_rows")
