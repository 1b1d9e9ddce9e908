"""Repair of unpriced rows: jobs, the rollup by reason, the index of unsettled rows, ignored groups."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNSETTLED: Final = "(billing_status = 'unpriced' OR billing_status = 'partial' OR billing_status = 'assumed')"
WAITING: Final = "status IN ('queued', 'running')"

TABLES: Final = ("ignored_groups", "jobs", "rollup_day_reason")

ROLLUPS: Final = ("rollup_day", "rollup_quarter", "rollup_day_by", "rollup_day_reason")

INDEXES: Final = {
    "ix_usage_rows_unsettled": ["org_id", "occurred_at_us", "usage_id"],
    "ix_usage_rows_group": ["org_id", "provider", "model", "reason", "billing_status", "occurred_at_us"],
}
# As in 0001: SQLite plans by statistics, and has none of an empty table.
STATISTICS: Final = {
    "ix_usage_rows_unsettled": "200000 2000 2 1",
    "ix_usage_rows_group": "200000 2000 1000 500 400 400 2",
}

DIMENSIONS: Final = ("provider", "model", "billing_status", "reason", "currency")
TOKENS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
DETAILS: Final = (
    "audio_input_tokens",
    "image_input_tokens",
    "video_input_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "input_images",
    "output_images",
    "input_seconds_us",
    "output_seconds_us",
    "input_characters",
    "output_characters",
    "pages",
    "search_units",
    "provider_requests",
    "web_searches",
)
AMOUNTS: Final = ("cost_units", "cost_pico", "list_cost_units", "list_cost_pico")
MEASURES: Final = (
    "requests",
    "errors",
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "video_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "input_images",
    "output_images",
    "input_seconds_us",
    "output_seconds_us",
    "input_characters",
    "output_characters",
    "pages",
    "search_units",
    "provider_requests",
    "web_searches",
    "total_tokens",
    "priced_rows",
    "unpriced_rows",
    "assumed_rows",
    "partial_rows",
    *AMOUNTS,
)


def upgrade() -> None:
    create_tables()
    for name, columns in INDEXES.items():
        unsettled = sa.text(UNSETTLED)
        op.create_index(name, "usage_rows", columns, unique=False, sqlite_where=unsettled, postgresql_where=unsettled)
    if op.get_bind().dialect.name == "sqlite":
        for name, rows in STATISTICS.items():
            op.execute(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('usage_rows', '{name}', '{rows}')")
        op.execute("ANALYZE sqlite_schema")  # lets this connection read them, as others do when they open
    else:
        for table in ROLLUPS:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
    fill_rollup()


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="usage_rows")
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in set(ROLLUPS) - set(TABLES):
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")


def create_tables() -> None:
    op.create_table(
        "rollup_day_reason",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), autoincrement=False, nullable=False) for name in DIMENSIONS),
        sa.Column("writer_slot", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, BIG, server_default=sa.text("0"), nullable=False) for name in MEASURES),
        sa.PrimaryKeyConstraint("org_id", "day", *DIMENSIONS, "writer_slot", name=op.f("pk_rollup_day_reason")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("run_after_us", BIG, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("leased_until_us", BIG, nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("started_at_us", BIG, nullable=True),
        sa.Column("finished_at_us", BIG, nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_jobs_status_known")),
        sa.CheckConstraint(
            "(status = 'running') = (holder IS NOT NULL) AND (status = 'running') = (leased_until_us IS NOT NULL)",
            name=op.f("ck_jobs_leased_while_running"),
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_jobs_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["run_after_us", "id"],
        unique=False,
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )
    op.create_table(
        "ignored_groups",
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ignored_at_us", BIG, nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_ignored_groups_org_id")),
        sa.PrimaryKeyConstraint("subject_key", name=op.f("pk_ignored_groups")),
        sqlite_strict=True,
    )


def fill_rollup() -> None:
    """Count the rows that stand already, under slot 0, which is nobody's."""
    keys = ["org_id", "day", *(f"COALESCE({name}, '')" for name in DIMENSIONS)]
    sums = [f"CAST({expression} AS BIGINT)" for expression in map(measured, MEASURES)]
    names = ", ".join(("org_id", "day", *DIMENSIONS, "writer_slot", *MEASURES))
    op.execute(
        f"INSERT INTO rollup_day_reason ({names}) SELECT {', '.join((*keys, '0', *sums))} "
        f"FROM usage_rows WHERE {UNSETTLED} GROUP BY {', '.join(keys)}"
    )


def measured(measure: str) -> str:
    """Write how a measure is summed over rows."""
    if measure in AMOUNTS:
        return amount(measure)
    if measure in DETAILS:
        return total(detail(measure))
    if measure in TOKENS:
        return total(measure)
    counted = {
        "requests": "1",
        "errors": "CASE WHEN status = 'error' THEN 1 END",
        "total_tokens": "COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)",
        "priced_rows": "CASE WHEN cost_pico IS NOT NULL THEN 1 END",
    }
    status = measure.removesuffix("_rows")
    return total(counted.get(measure, f"CASE WHEN billing_status = '{status}' THEN 1 END"))


def amount(measure: str) -> str:
    """Write one of the two parts of a sum of amounts; units and pico are summed apart, so that 64 bits hold them."""
    column = "list_cost_pico" if measure.startswith("list") else "cost_pico"
    pico = total(f"{column} % 1000000000000")
    if measure.endswith("_pico"):
        return f"{pico} % 1000000000000"
    return f"{total(f'{column} / 1000000000000')} + CAST({pico} AS BIGINT) / 1000000000000"


def total(expression: str) -> str:
    return f"COALESCE(SUM({expression}), 0)"


def detail(name: str) -> str:
    if op.get_bind().dialect.name == "sqlite":
        return f"json_extract(usage_details, '$.{name}')"
    return f"CAST(CAST(usage_details AS JSON) ->> '{name}' AS BIGINT)"
