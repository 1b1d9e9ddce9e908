"""The books: organizations, keys, users, usage rows with their charges, rollups, prices, and the guards of law 6."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLAG: Final = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")

TABLES: Final = (
    "prices",
    "api_keys",
    "writers",
    "users",
    "usage_rows",
    "rollup_quarter",
    "rollup_day_by",
    "rollup_day",
    "price_revisions",
    "organizations",
    "charge_versions",
    "catalog_state",
    "booked_batches",
)

# SQLite plans by statistics and has none of an empty table: it would then rather walk an organization than use the
# index of its traces. So it is told what a large file is like: rows, then rows per value of one, two, … key columns.
STATISTICS: Final = {
    "usage_rows": "10000000 100000 1000 1",
    "ix_usage_rows_occurred": "10000000 100000 2 1",
    "ix_usage_rows_trace": "10000000 100000 8",
    "ix_usage_rows_user": "10000000 100000 1000 2 1",
    "ix_usage_rows_unpriced": "100000 1000 2 1",
}

# A usage row changes only together with its charge's version, and only when the charge that it had stands among the
# old versions. Nothing that carries money is deleted.
SAME_KEY: Final = "NEW.org_id = OLD.org_id AND NEW.day = OLD.day AND NEW.usage_id = OLD.usage_id"
OLD_VERSION_KEPT: Final = """EXISTS (
    SELECT 1 FROM charge_versions kept
    WHERE kept.org_id = OLD.org_id AND kept.day = OLD.day AND kept.usage_id = OLD.usage_id
      AND kept.version = OLD.charge_version AND kept.billing_status = OLD.billing_status
      AND kept.cost_pico IS NOT DISTINCT FROM OLD.cost_pico
)"""
UNTRACED: Final = "a usage row changes only with its old charge kept in charge_versions (farebox law 6)"
APPEND_ONLY: Final = "is append-only (farebox law 6)"


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        guard_on_sqlite()
        describe_to_sqlite()
    else:
        guard_on_postgresql()


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION farebox_guard_update()")
        op.execute("DROP FUNCTION farebox_refuse()")


def guard_on_sqlite() -> None:
    allowed = f"{SAME_KEY} AND NEW.charge_version = OLD.charge_version + 1 AND {OLD_VERSION_KEPT}"
    op.execute(
        f"CREATE TRIGGER usage_rows_update BEFORE UPDATE ON usage_rows WHEN NOT ({allowed}) "
        f"BEGIN SELECT RAISE(ABORT, '{UNTRACED}'); END"
    )
    for table, event in (("usage_rows", "DELETE"), ("charge_versions", "UPDATE"), ("charge_versions", "DELETE")):
        op.execute(
            f"CREATE TRIGGER {table}_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} {APPEND_ONLY}'); END"
        )


def describe_to_sqlite() -> None:
    op.execute("ANALYZE usage_rows")  # makes the table of statistics
    for index, rows in STATISTICS.items():
        op.execute(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('usage_rows', '{index}', '{rows}')")
    op.execute("ANALYZE sqlite_schema")  # lets this connection read them, as others do when they open


def guard_on_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION farebox_guard_update() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {SAME_KEY} AND NEW.charge_version = OLD.charge_version + 1 AND {OLD_VERSION_KEPT} THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION '{UNTRACED}' USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    op.execute(f"""
        CREATE FUNCTION farebox_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% {APPEND_ONLY}', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    op.execute(
        "CREATE TRIGGER usage_rows_update BEFORE UPDATE ON usage_rows "
        "FOR EACH ROW EXECUTE FUNCTION farebox_guard_update()"
    )
    for table, events in (("usage_rows", "DELETE"), ("charge_versions", "UPDATE OR DELETE")):
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE {events} ON {table} FOR EACH ROW EXECUTE FUNCTION farebox_refuse()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION farebox_refuse()"
        )


def create_tables() -> None:
    op.create_table(
        "booked_batches",
        sa.Column("collector_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("batch_id", BIG, autoincrement=False, nullable=False),
        sa.Column("booked_at_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("collector_id", "batch_id", name=op.f("pk_booked_batches")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "catalog_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalog_state_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_state")),
        sqlite_strict=True,
    )
    op.create_table(
        "charge_versions",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("usage_id", sa.LargeBinary(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("billing_status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_detail", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("cost_pico", BIG, nullable=True),
        sa.Column("cost_input_pico", BIG, nullable=True),
        sa.Column("cost_output_pico", BIG, nullable=True),
        sa.Column("cost_cache_read_pico", BIG, nullable=True),
        sa.Column("cost_cache_write_pico", BIG, nullable=True),
        sa.Column("cost_other_pico", BIG, nullable=True),
        sa.Column("list_cost_pico", BIG, nullable=True),
        sa.Column("multiplier", sa.Text(), nullable=True),
        sa.Column("price_id", sa.Text(), nullable=True),
        sa.Column("covered_by", sa.LargeBinary(), nullable=True),
        sa.Column("lines", sa.Text(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("replaced_at_us", BIG, nullable=False),
        sa.CheckConstraint(
            "(cost_pico IS NOT NULL) = (billing_status = 'billed' OR billing_status = 'assumed' OR "
            "billing_status = 'partial' OR billing_status = 'free')",
            name=op.f("ck_charge_versions_cost_known_when_charged"),
        ),
        sa.CheckConstraint(
            "billing_status <> 'free' OR cost_pico = 0", name=op.f("ck_charge_versions_free_costs_nothing")
        ),
        sa.CheckConstraint(
            "(billing_status = 'billed' OR billing_status = 'free' OR billing_status = 'partial' OR "
            "billing_status = 'assumed' OR billing_status = 'unpriced' OR billing_status = 'not_billable' OR "
            "billing_status = 'suppressed')",
            name=op.f("ck_charge_versions_billing_status_known"),
        ),
        sa.CheckConstraint(
            "(reason = 'unknown_provider' OR reason = 'unknown_model' OR reason = 'model_missing' OR "
            "reason = 'ambiguous_model' OR reason = 'no_price_at_time' OR reason = 'no_rate_for_dimension' OR "
            "reason = 'no_rate_for_tier' OR reason = 'missing_usage' OR reason = 'stream_without_usage' OR "
            "reason = 'invalid_usage' OR reason = 'error_no_usage' OR reason = 'currency_unsupported' OR "
            "reason = 'duplicate_response' OR reason = 'covered_by_child' OR reason = 'twin' OR "
            "reason = 'aggregate_only' OR reason = 'needs_review' OR reason = 'archived')",
            name=op.f("ck_charge_versions_reason_known"),
        ),
        sa.CheckConstraint(
            "COALESCE(cost_pico = cost_input_pico + cost_output_pico + cost_cache_read_pico + cost_cache_write_pico + "
            "cost_other_pico, cost_pico IS NULL AND cost_input_pico IS NULL AND cost_output_pico IS NULL AND "
            "cost_cache_read_pico IS NULL AND cost_cache_write_pico IS NULL AND cost_other_pico IS NULL)",
            name=op.f("ck_charge_versions_parts_sum_to_cost"),
        ),
        sa.PrimaryKeyConstraint("org_id", "day", "usage_id", "version", name=op.f("pk_charge_versions")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "organizations",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("slug", name=op.f("uq_organizations_slug")),
        sqlite_strict=True,
    )
    op.create_table(
        "price_revisions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("fetched_at_us", BIG, nullable=False),
        sa.Column("applied_at_us", BIG, nullable=True),
        sa.Column("added", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("removed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_revisions")),
        sqlite_strict=True,
    )
    op.create_table(
        "rollup_day",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("project", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("service", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("category", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("billing_status", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("writer_slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("errors", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_read_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_write_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("video_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("reasoning_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("pages", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("search_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("provider_requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("web_searches", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("total_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("priced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("assumed_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("partial_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id",
            "day",
            "project",
            "provider",
            "model",
            "service",
            "category",
            "billing_status",
            "currency",
            "writer_slot",
            name=op.f("pk_rollup_day"),
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_day_by",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("writer_slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("errors", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_read_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_write_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("video_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("reasoning_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("pages", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("search_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("provider_requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("web_searches", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("total_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("priced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("assumed_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("partial_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id", "day", "dimension", "value", "currency", "writer_slot", name=op.f("pk_rollup_day_by")
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup_quarter",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("quarter_us", BIG, autoincrement=False, nullable=False),
        sa.Column("project", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("service", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("category", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("billing_status", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("writer_slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("errors", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_read_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cache_write_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("video_input_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("reasoning_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("audio_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("image_output_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_images", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_seconds_us", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("input_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("output_characters", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("pages", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("search_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("provider_requests", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("web_searches", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("total_tokens", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("priced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("assumed_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("partial_rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_units", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("list_cost_pico", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id",
            "quarter_us",
            "project",
            "provider",
            "model",
            "service",
            "category",
            "billing_status",
            "currency",
            "writer_slot",
            name=op.f("pk_rollup_quarter"),
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_rows",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("usage_id", sa.LargeBinary(), autoincrement=False, nullable=False),
        sa.Column("trace_id", sa.LargeBinary(), nullable=False),
        sa.Column("span_id", sa.LargeBinary(), nullable=False),
        sa.Column("parent_span_id", sa.LargeBinary(), nullable=True),
        sa.Column("occurred_at_us", BIG, nullable=False),
        sa.Column("started_at_us", BIG, nullable=True),
        sa.Column("received_at_us", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("scope_name", sa.Text(), nullable=False),
        sa.Column("is_client", FLAG, nullable=False),
        sa.Column("reported_provider", sa.Text(), nullable=True),
        sa.Column("request_model", sa.Text(), nullable=True),
        sa.Column("response_model", sa.Text(), nullable=True),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("operation", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("time_to_first_chunk_ms", BIG, nullable=True),
        sa.Column("is_stream", FLAG, nullable=False),
        sa.Column("service_tier", sa.Text(), nullable=True),
        sa.Column("is_batch", FLAG, nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("tokens_source", sa.Text(), nullable=False),
        sa.Column("input_tokens", BIG, nullable=True),
        sa.Column("cache_read_input_tokens", BIG, nullable=True),
        sa.Column("cache_write_input_tokens", BIG, nullable=True),
        sa.Column("output_tokens", BIG, nullable=True),
        sa.Column("reasoning_output_tokens", BIG, nullable=True),
        sa.Column("usage_details", sa.Text(), nullable=True),
        sa.Column("stated_cost_pico", BIG, nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("user_ref", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("task_type", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("content_ref", sa.Text(), nullable=True),
        sa.Column("model_config", sa.Text(), nullable=True),
        sa.Column("upstream", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("billing_status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_detail", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("cost_pico", BIG, nullable=True),
        sa.Column("cost_input_pico", BIG, nullable=True),
        sa.Column("cost_output_pico", BIG, nullable=True),
        sa.Column("cost_cache_read_pico", BIG, nullable=True),
        sa.Column("cost_cache_write_pico", BIG, nullable=True),
        sa.Column("cost_other_pico", BIG, nullable=True),
        sa.Column("list_cost_pico", BIG, nullable=True),
        sa.Column("multiplier", sa.Text(), nullable=True),
        sa.Column("price_id", sa.Text(), nullable=True),
        sa.Column("covered_by", sa.LargeBinary(), nullable=True),
        sa.Column("lines", sa.Text(), nullable=True),
        sa.Column("charge_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "(cost_pico IS NOT NULL) = (billing_status = 'billed' OR billing_status = 'assumed' OR "
            "billing_status = 'partial' OR billing_status = 'free')",
            name=op.f("ck_usage_rows_cost_known_when_charged"),
        ),
        sa.CheckConstraint("billing_status <> 'free' OR cost_pico = 0", name=op.f("ck_usage_rows_free_costs_nothing")),
        sa.CheckConstraint(
            "(billing_status = 'billed' OR billing_status = 'free' OR billing_status = 'partial' OR "
            "billing_status = 'assumed' OR billing_status = 'unpriced' OR billing_status = 'not_billable' OR "
            "billing_status = 'suppressed')",
            name=op.f("ck_usage_rows_billing_status_known"),
        ),
        sa.CheckConstraint("(kind = 'call' OR kind = 'container')", name=op.f("ck_usage_rows_kind_known")),
        sa.CheckConstraint(
            "(reason = 'unknown_provider' OR reason = 'unknown_model' OR reason = 'model_missing' OR "
            "reason = 'ambiguous_model' OR reason = 'no_price_at_time' OR reason = 'no_rate_for_dimension' OR "
            "reason = 'no_rate_for_tier' OR reason = 'missing_usage' OR reason = 'stream_without_usage' OR "
            "reason = 'invalid_usage' OR reason = 'error_no_usage' OR reason = 'currency_unsupported' OR "
            "reason = 'duplicate_response' OR reason = 'covered_by_child' OR reason = 'twin' OR "
            "reason = 'aggregate_only' OR reason = 'needs_review' OR reason = 'archived')",
            name=op.f("ck_usage_rows_reason_known"),
        ),
        sa.CheckConstraint(
            "(status = 'ok' OR status = 'error' OR status = 'cancelled')", name=op.f("ck_usage_rows_status_known")
        ),
        sa.CheckConstraint(
            "(tokens_source = 'reported' OR tokens_source = 'clamped')", name=op.f("ck_usage_rows_tokens_source_known")
        ),
        sa.CheckConstraint(
            "COALESCE(cost_pico = cost_input_pico + cost_output_pico + cost_cache_read_pico + cost_cache_write_pico + "
            "cost_other_pico, cost_pico IS NULL AND cost_input_pico IS NULL AND cost_output_pico IS NULL AND "
            "cost_cache_read_pico IS NULL AND cost_cache_write_pico IS NULL AND cost_other_pico IS NULL)",
            name=op.f("ck_usage_rows_parts_sum_to_cost"),
        ),
        sa.CheckConstraint(
            "cache_read_input_tokens >= 0", name=op.f("ck_usage_rows_cache_read_input_tokens_not_negative")
        ),
        sa.CheckConstraint(
            "cache_write_input_tokens >= 0", name=op.f("ck_usage_rows_cache_write_input_tokens_not_negative")
        ),
        sa.CheckConstraint("day BETWEEN 20200101 AND 99991231", name=op.f("ck_usage_rows_day_is_a_date")),
        sa.CheckConstraint("input_tokens >= 0", name=op.f("ck_usage_rows_input_tokens_not_negative")),
        sa.CheckConstraint("length(usage_id) = 16", name=op.f("ck_usage_rows_usage_id_is_128_bits")),
        sa.CheckConstraint("output_tokens >= 0", name=op.f("ck_usage_rows_output_tokens_not_negative")),
        sa.CheckConstraint(
            "reasoning_output_tokens >= 0", name=op.f("ck_usage_rows_reasoning_output_tokens_not_negative")
        ),
        sa.PrimaryKeyConstraint("org_id", "day", "usage_id", name=op.f("pk_usage_rows")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_rows_occurred", "usage_rows", ["org_id", "occurred_at_us", "usage_id"], unique=False)
    op.create_index("ix_usage_rows_trace", "usage_rows", ["org_id", "trace_id"], unique=False)
    op.create_index(
        "ix_usage_rows_unpriced",
        "usage_rows",
        ["org_id", "occurred_at_us", "usage_id"],
        unique=False,
        sqlite_where=sa.text("billing_status = 'unpriced'"),
        postgresql_where=sa.text("billing_status = 'unpriced'"),
    )
    op.create_index(
        "ix_usage_rows_user", "usage_rows", ["org_id", "user_ref", "occurred_at_us", "usage_id"], unique=False
    )
    op.create_table(
        "users",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("user_ref", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("first_seen_us", BIG, nullable=False),
        sa.Column("erased_at_us", BIG, nullable=True),
        sa.PrimaryKeyConstraint("org_id", "user_ref", name=op.f("pk_users")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "writers",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("leased_until_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_writers")),
        sa.UniqueConstraint("holder", name=op.f("uq_writers_holder")),
        sqlite_strict=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("expires_at_us", BIG, nullable=True),
        sa.Column("revoked_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_api_keys_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
        sqlite_strict=True,
    )
    op.create_table(
        "prices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("rates", sa.Text(), nullable=False),
        sa.Column("effective_from_us", BIG, nullable=True),
        sa.Column("effective_to_us", BIG, nullable=True),
        sa.Column("retired", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("revision_id", sa.Text(), nullable=True),
        sa.CheckConstraint("effective_from_us < effective_to_us", name=op.f("ck_prices_effective_range_not_empty")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_prices_org_id")),
        sa.ForeignKeyConstraint(["revision_id"], ["price_revisions.id"], name=op.f("fk_prices_revision_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sqlite_strict=True,
    )
    op.create_index("ix_prices_name", "prices", ["provider", "model", "effective_from_us"], unique=False)
