"""Price administration: overrides, aliases, multipliers, upstreams, model configurations, policies, and price syncs."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLAG: Final = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
LIVE: Final = sa.text("deleted_at_us IS NULL")

TABLES: Final = (
    "model_alias_terms",
    "price_override_terms",
    "multiplier_terms",
    "model_configs",
    "upstreams",
    "price_syncs",
    "price_policies",
    "price_overrides",
    "multipliers",
    "model_aliases",
)


def upgrade() -> None:
    op.create_table(
        "model_aliases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_active", FLAG, server_default=sa.text("1"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_model_aliases_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_aliases")),
        sqlite_strict=True,
    )
    op.create_index("ix_model_aliases_subject", "model_aliases", ["subject_key"], unique=False)
    op.create_table(
        "multipliers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("upstream", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_active", FLAG, server_default=sa.text("1"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_multipliers_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_multipliers")),
        sqlite_strict=True,
    )
    op.create_index("ix_multipliers_subject", "multipliers", ["subject_key"], unique=False)
    op.create_table(
        "price_overrides",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_active", FLAG, server_default=sa.text("1"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.CheckConstraint("unit IN ('token', '1k', '1m')", name=op.f("ck_price_overrides_unit_known")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_price_overrides_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_overrides")),
        sqlite_strict=True,
    )
    op.create_index("ix_price_overrides_subject", "price_overrides", ["subject_key"], unique=False)
    op.create_table(
        "price_policies",
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("use_archive", FLAG, nullable=False),
        sa.Column("carry_retired", FLAG, nullable=False),
        sa.Column("stated_cost_bills", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("aggregate_only_bills", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_price_policies_org_id")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_price_policies")),
        sqlite_strict=True,
    )
    op.create_table(
        "price_syncs",
        sa.Column("id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("requested_at_us", BIG, nullable=False),
        sa.Column("finished_at_us", BIG, nullable=True),
        sa.Column("approved_at_us", BIG, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size_bytes", BIG, nullable=True),
        sa.Column("added", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("removed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("diff", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("revision_id", sa.Text(), nullable=True),
        sa.CheckConstraint("source IN ('litellm')", name=op.f("ck_price_syncs_source_known")),
        sa.CheckConstraint(
            "status IN ('running', 'applied', 'unchanged', 'awaiting_approval', 'superseded', 'failed')",
            name=op.f("ck_price_syncs_status_known"),
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["price_revisions.id"], name=op.f("fk_price_syncs_revision_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_syncs")),
        sqlite_strict=True,
    )
    op.create_index("ix_price_syncs_requested", "price_syncs", ["requested_at_us", "id"], unique=False)
    op.create_table(
        "upstreams",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_active", FLAG, server_default=sa.text("1"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_upstreams_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upstreams")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_upstreams_subject", "upstreams", ["subject_key"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_table(
        "model_configs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("is_default", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("override_id", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_active", FLAG, server_default=sa.text("1"), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("updated_at_us", BIG, nullable=False),
        sa.Column("deleted_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_model_configs_org_id")),
        sa.ForeignKeyConstraint(["override_id"], ["price_overrides.id"], name=op.f("fk_model_configs_override_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_configs")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_model_configs_name",
        "model_configs",
        ["org_id", "name"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    for table in ("model_aliases", "multipliers", "price_overrides", "upstreams", "model_configs"):
        index_by_creation(table)
    op.create_table(
        "multiplier_terms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("factor", sa.Text(), nullable=False),
        sa.Column("effective_from_us", BIG, nullable=True),
        sa.Column("effective_to_us", BIG, nullable=True),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("withdrawn_at_us", BIG, nullable=True),
        sa.CheckConstraint(
            "effective_from_us < effective_to_us", name=op.f("ck_multiplier_terms_effective_range_not_empty")
        ),
        sa.ForeignKeyConstraint(["subject_id"], ["multipliers.id"], name=op.f("fk_multiplier_terms_subject_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_multiplier_terms")),
        sqlite_strict=True,
    )
    op.create_index("ix_multiplier_terms_subject", "multiplier_terms", ["subject_id"], unique=False)
    op.create_table(
        "price_override_terms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("withdrawn_at_us", BIG, nullable=True),
        sa.ForeignKeyConstraint(["id"], ["prices.id"], name=op.f("fk_price_override_terms_id")),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["price_overrides.id"], name=op.f("fk_price_override_terms_subject_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_override_terms")),
        sqlite_strict=True,
    )
    op.create_index("ix_price_override_terms_subject", "price_override_terms", ["subject_id"], unique=False)
    op.create_table(
        "model_alias_terms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("target_provider", sa.Text(), nullable=True),
        sa.Column("target_model", sa.Text(), nullable=False),
        sa.Column("model_config_id", sa.Text(), nullable=True),
        sa.Column("effective_from_us", BIG, nullable=True),
        sa.Column("effective_to_us", BIG, nullable=True),
        sa.Column("created_at_us", BIG, nullable=False),
        sa.Column("withdrawn_at_us", BIG, nullable=True),
        sa.CheckConstraint(
            "effective_from_us < effective_to_us", name=op.f("ck_model_alias_terms_effective_range_not_empty")
        ),
        sa.ForeignKeyConstraint(
            ["model_config_id"], ["model_configs.id"], name=op.f("fk_model_alias_terms_model_config_id")
        ),
        sa.ForeignKeyConstraint(["subject_id"], ["model_aliases.id"], name=op.f("fk_model_alias_terms_subject_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_alias_terms")),
        sqlite_strict=True,
    )
    op.create_index("ix_model_alias_terms_subject", "model_alias_terms", ["subject_id"], unique=False)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)


def index_by_creation(table: str) -> None:
    """Let lists go on where a page ended: those of one owner, and the list of all."""
    for name, owner in (("organization", ["org_id"]), ("created", [])):
        columns = [*owner, "created_at_us", "id"]
        op.create_index(f"ix_{table}_{name}", table, columns, sqlite_where=LIVE, postgresql_where=LIVE)
