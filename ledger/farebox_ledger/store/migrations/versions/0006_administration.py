"""Administration: audit log, idempotency keys, rate limits, projects, deleted users.

Row-level security is no revision's: `isolation` derives it from the tables after every upgrade.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEYED: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
TABLES: Final = ("key_uses", "rate_counts", "key_limits", "deleted_users", "projects", "idempotency_keys", "audit_log")
LIST_INDEXES: Final = (
    ("ix_api_keys_organization", "api_keys", ["org_id", "created_at_us", "id"]),
    ("ix_api_keys_created", "api_keys", ["created_at_us", "id"]),
    ("ix_booked_batches_booked", "booked_batches", ["booked_at_us"]),
    ("ix_users_email", "users", ["org_id", "email", "user_ref"]),
)
APPEND_ONLY: Final = "audit_log is append-only"


def upgrade() -> None:
    create_audit_log()
    create_idempotency_keys()
    create_people()
    create_limits()
    create_list_indexes()
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_log_{event.lower()} BEFORE {event} ON audit_log "
                f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY}'); END"
            )
    else:
        guard_on_postgresql()


def downgrade() -> None:
    for name, table, _ in LIST_INDEXES:
        op.drop_index(name, table)
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION farebox_audit_kept()")


def guard_on_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION farebox_audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{APPEND_ONLY}' USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    for name, event, each in (("refuse", "UPDATE OR DELETE", "ROW"), ("truncate", "TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER audit_log_{name} BEFORE {event} ON audit_log "
            f"FOR EACH {each} EXECUTE FUNCTION farebox_audit_kept()"
        )


def key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def create_audit_log() -> None:
    op.create_table(
        "audit_log",
        key("org_id", BIG),
        key("at_us", BIG),
        key("id", sa.Text()),
        required("actor_kind", sa.Text()),
        required("actor", sa.Text()),
        optional("via", sa.Text()),
        required("action", sa.Text()),
        required("object_kind", sa.Text()),
        optional("object_id", sa.Text()),
        optional("before", sa.Text()),
        optional("after", sa.Text()),
        optional("request_id", sa.Text()),
        sa.CheckConstraint("actor_kind IN ('key', 'command', 'system')", name=op.f("ck_audit_log_actor_kind_known")),
        sa.PrimaryKeyConstraint("org_id", "at_us", "id", name=op.f("pk_audit_log")),
        **KEYED,
    )
    op.create_index("ix_audit_log_object", "audit_log", ["org_id", "object_id", "at_us", "id"])
    op.create_index("ix_audit_log_actor", "audit_log", ["org_id", "actor", "at_us", "id"])


def create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        key("org_id", BIG),
        key("caller", sa.Text()),
        key("idempotency_key", sa.Text()),
        required("request_hash", sa.LargeBinary()),
        required("claim", sa.Text()),
        required("claimed_at_us", BIG),
        optional("status", sa.Integer()),
        optional("headers", sa.Text()),
        optional("body", sa.LargeBinary()),
        sa.CheckConstraint("(status IS NULL) = (headers IS NULL)", name=op.f("ck_idempotency_keys_answered_whole")),
        sa.PrimaryKeyConstraint("org_id", "caller", "idempotency_key", name=op.f("pk_idempotency_keys")),
        **KEYED,
    )
    op.create_index("ix_idempotency_keys_claimed", "idempotency_keys", ["org_id", "claimed_at_us"])


def create_people() -> None:
    op.create_table(
        "projects",
        key("org_id", BIG),
        key("project", sa.Text()),
        optional("name", sa.Text()),
        required("first_seen_us", BIG),
        optional("deleted_at_us", BIG),
        sa.PrimaryKeyConstraint("org_id", "project", name=op.f("pk_projects")),
        **KEYED,
    )
    op.create_table(
        "deleted_users",
        key("org_id", BIG),
        key("user_ref", sa.Text()),
        required("deleted_at_us", BIG),
        sa.PrimaryKeyConstraint("org_id", "user_ref", name=op.f("pk_deleted_users")),
        **KEYED,
    )


def create_limits() -> None:
    op.create_table(
        "key_limits",
        key("key_id", sa.Text()),
        required("requests_per_minute", sa.Integer()),
        sa.CheckConstraint("requests_per_minute > 0", name=op.f("ck_key_limits_requests_per_minute_positive")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_key_limits_key_id")),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_limits")),
        **KEYED,
    )
    op.create_table(
        "rate_counts",
        key("key_id", sa.Text()),
        required("window_us", BIG),
        required("used", BIG),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_rate_counts")),
        **KEYED,
    )
    op.create_table(
        "key_uses",
        key("key_id", sa.Text()),
        required("used_at_us", BIG),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_uses")),
        **KEYED,
    )


def create_list_indexes() -> None:
    """Let the API list keys in pages and find users by their address, and upkeep find old batches."""
    for name, table, columns in LIST_INDEXES:
        some = sa.text("email IS NOT NULL") if table == "users" else None
        op.create_index(name, table, columns, sqlite_where=some, postgresql_where=some)
    if op.get_bind().dialect.name == "sqlite":
        # As in 0001: SQLite plans by statistics, and has none of an empty table.
        op.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('users', 'ix_users_email', '200000 2000 1 1')")
        op.execute("ANALYZE sqlite_schema")  # lets this connection read them, as others do when they open
